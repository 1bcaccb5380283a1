//! With wasip3, on wasi:http 0.3.

use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::http::types::{ErrorCode, Fields, Request, Response, Scheme};
use wasip3::{spawn_local, wit_future, wit_stream};

struct Component;

wasip3::http::service::export!(Component);

impl wasip3::exports::http::handler::Guest for Component {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query().unwrap_or_default();
        let (trailers_tx, trailers) = wit_future::new(|| Ok(None));
        drop(trailers_tx);
        match path.as_str() {
            "/echo" => {
                let (_, done) = wit_future::new(|| Ok(()));
                let (body, trailers) = Request::consume_body(request, done);
                Ok(Response::new(Fields::new(), Some(body), trailers).0)
            }
            // Hands the answer of another server through: its bytes never enter the guest.
            "/fetch" => {
                let url = request.get_headers().get("x-url").into_iter().next().unwrap_or_default();
                let url = String::from_utf8(url).unwrap_or_default();
                let (_, rest) = url.split_once("://").unwrap_or_default();
                let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                let (outgoing, _) = Request::new(Fields::new(), None, trailers, None);
                let set = outgoing
                    .set_scheme(Some(&Scheme::Http))
                    .and_then(|()| outgoing.set_authority(Some(authority)))
                    .and_then(|()| outgoing.set_path_with_query(Some(path)));
                if set.is_err() {
                    return Err(ErrorCode::HttpRequestUriInvalid);
                }
                let answer = wasip3::http::client::send(outgoing).await?;
                let status = answer.get_status_code();
                let (_, done) = wit_future::new(|| Ok(()));
                let (body, trailers) = Response::consume_body(answer, done);
                let response = Response::new(Fields::new(), Some(body), trailers).0;
                _ = response.set_status_code(status);
                Ok(response)
            }
            "/" | "/stream" => {
                let (mut writer, reader) = wit_stream::new();
                spawn_local(async move {
                    if path == "/" {
                        writer.write_all(b"hello from wasip3".to_vec()).await;
                        return;
                    }
                    for number in 0..5 {
                        wait_for(50_000_000).await;
                        writer.write_all(format!("tick {number}\n").into_bytes()).await;
                    }
                });
                Ok(Response::new(Fields::new(), Some(reader), trailers).0)
            }
            "/spin" => loop {
                std::hint::black_box(0);
            },
            "/trap" => panic!("a secret that must not leave the house"),
            "/never" => {
                wait_for(3_600_000_000_000).await;
                Err(ErrorCode::InternalError(None))
            }
            "/trap-in-body" => {
                let (mut writer, reader) = wit_stream::new();
                spawn_local(async move {
                    writer.write_all(b"the first half, and ".to_vec()).await;
                    panic!("in the middle");
                });
                Ok(Response::new(Fields::new(), Some(reader), trailers).0)
            }
            _ => {
                let response = Response::new(Fields::new(), None, trailers).0;
                _ = response.set_status_code(404);
                Ok(response)
            }
        }
    }
}
