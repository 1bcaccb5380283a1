//! Says in every header and every piece of a body which build it is: the tests write another marker over this
//! one, and so have as many builds as they like.

wit_bindgen::generate!({
    path: "../../../wit",
    world: "wasi:http/proxy@0.2.12",
    generate_all,
});

use exports::wasi::http0_2_12::incoming_handler::Guest;
use wasi::clocks0_2_12::monotonic_clock::subscribe_duration;
use wasi::http0_2_12::types::*;
use wasi::io::streams::StreamError;

static MARKER: &str = "marker-0123456789abcdefghij";

struct Component;

impl Guest for Component {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let marker = std::hint::black_box(MARKER);
        let path = request.path_with_query().unwrap_or_default();
        let mut words = path.trim_start_matches('/').split('/');
        let what = words.next().unwrap_or_default();
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or_default();
        let headers = Fields::new();
        headers.set("x-version", &[marker.as_bytes().to_vec()]).unwrap();
        headers.set("cache-control", &[b"max-age=3600".to_vec()]).unwrap();
        let response = OutgoingResponse::new(headers);
        if what == "health" && marker.starts_with("sick") {
            response.set_status_code(503).unwrap();
        }
        let body = response.body().unwrap();
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().unwrap();
        let say = |text: String| stream.blocking_write_and_flush(text.as_bytes());
        match what {
            // So many pieces, so many milliseconds apart.
            "stream" => {
                let (pieces, pause) = (number(), number());
                for _ in 0..pieces {
                    subscribe_duration(pause * 1_000_000).block();
                    if say(format!("{marker}\n")).is_err() {
                        break;
                    }
                }
            }
            "upload" => {
                let incoming = request.consume().unwrap();
                let from = incoming.stream().unwrap();
                let mut bytes = 0;
                loop {
                    match from.blocking_read(1 << 20) {
                        Ok(piece) => bytes += piece.len(),
                        Err(StreamError::Closed) => break,
                        Err(error) => panic!("{error:?}"),
                    }
                }
                say(format!("{marker}\n{bytes}\n")).unwrap();
            }
            _ => {
                say(format!("{marker}\n")).unwrap();
                say(format!("{marker}\n")).unwrap();
            }
        }
        drop(stream);
        _ = OutgoingBody::finish(body, None);
    }
}

export!(Component);
