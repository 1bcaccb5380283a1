//! With nothing but wit-bindgen and the WIT files.

wit_bindgen::generate!({
    path: "../../../wit",
    world: "wasi:http/proxy@0.2.12",
    generate_all,
});

use exports::wasi::http0_2_12::incoming_handler::Guest;
use wasi::clocks0_2_12::monotonic_clock::subscribe_duration;
use wasi::http0_2_12::types::*;
use wasi::io::streams::StreamError;

struct Component;

impl Guest for Component {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let response = OutgoingResponse::new(Fields::new());
        if !matches!(path.as_str(), "/" | "/echo" | "/stream" | "/never") {
            response.set_status_code(404).unwrap();
        }
        let body = response.body().unwrap();
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().unwrap();
        match path.as_str() {
            "/" => stream.blocking_write_and_flush(b"hello from wit-bindgen").unwrap(),
            "/echo" => {
                let incoming = request.consume().unwrap();
                let from = incoming.stream().unwrap();
                loop {
                    match stream.blocking_splice(&from, 1 << 20) {
                        Ok(_) => {}
                        Err(StreamError::Closed) => break,
                        Err(error) => panic!("{error:?}"),
                    }
                }
            }
            "/never" => subscribe_duration(3_600_000_000_000).block(),
            "/stream" => {
                for number in 0..5 {
                    subscribe_duration(50_000_000).block();
                    stream.blocking_write_and_flush(format!("tick {number}\n").as_bytes()).unwrap();
                }
            }
            _ => {}
        }
        drop(stream);
        OutgoingBody::finish(body, None).unwrap();
    }
}

export!(Component);
