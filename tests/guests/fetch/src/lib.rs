//! Sends what it is sent to wherever `x-url` says, with the fields that `x-send` names, and returns the
//! answer as it comes. Errors become `599` and their name. `/check` asks about a grant. Of several URLs with blanks
//! between them, the rest is the next one's `x-url`.

use guesthouse_sdk::fetch::{self, Refusal};
use guesthouse_sdk::{Body, Handler, Request, Response};

struct Component;

guesthouse_sdk::export!(Component);

impl Handler for Component {
    fn handle(request: Request) -> Response {
        let Some(url) = request.header("x-url") else { return Response::text(400, "no x-url") };
        if request.path() == "/check" {
            return match fetch::check(&url) {
                Ok(()) => Response::text(200, "granted"),
                Err(Refusal::NotGranted) => Response::text(403, "not granted"),
                Err(Refusal::SecretsMissing(names)) => Response::text(503, names.join(",")),
            };
        }
        let (url, rest) = match url.split_once(' ') {
            Some((url, rest)) => (url.to_owned(), Some(rest.to_owned())),
            None => (url, None),
        };
        let mut out = fetch::Request::new(&request.method(), url);
        if let Some(rest) = rest {
            out = out.with("x-url", rest);
        }
        let send = request.header("x-send").unwrap_or_default();
        for name in send.split(',').filter(|name| !name.is_empty()) {
            if let Some(value) = request.header(name) {
                out = out.with(name, value);
            }
        }
        if !matches!(request.method().as_str(), "GET" | "HEAD")
            && let Some(body) = request.body()
        {
            out = out.body(Body::Incoming(body));
        }
        match out.send() {
            Ok(answer) => {
                let mut response = Response::new(answer.status);
                for (name, value) in &answer.headers {
                    if name != "content-length" {
                        response = response.with(name, value);
                    }
                }
                response.body(Body::Incoming(answer.body))
            }
            Err(error) => Response::text(599, format!("{error:?}")),
        }
    }
}
