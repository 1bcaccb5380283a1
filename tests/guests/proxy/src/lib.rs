//! Hands the answer of another server on, piece by piece: `/path?host:port` asks that server for the path.

wit_bindgen::generate!({
    path: "../../../wit",
    world: "wasi:http/proxy@0.2.12",
    generate_all,
});

use exports::wasi::http0_2_12::incoming_handler::Guest;
use wasi::http0_2_12::outgoing_handler;
use wasi::http0_2_12::types::*;
use wasi::io::streams::StreamError;

struct Component;

impl Guest for Component {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, authority) = target.split_once('?').unwrap_or((&target, ""));
        let upstream = OutgoingRequest::new(Fields::new());
        _ = upstream.set_scheme(Some(&Scheme::Http));
        _ = upstream.set_authority(Some(authority));
        _ = upstream.set_path_with_query(Some(path));
        let answer = outgoing_handler::handle(upstream, None).and_then(|future| {
            future.subscribe().block();
            future.get().unwrap().unwrap()
        });
        let answer = match answer {
            Ok(answer) => answer,
            Err(code) => return ResponseOutparam::set(out, Err(code)),
        };
        let response = OutgoingResponse::new(Fields::new());
        response.set_status_code(answer.status()).unwrap();
        let to = response.body().unwrap();
        ResponseOutparam::set(out, Ok(response));
        let from = answer.consume().unwrap();
        {
            let (from, to) = (from.stream().unwrap(), to.write().unwrap());
            loop {
                match to.blocking_splice(&from, 1 << 20) {
                    Ok(_) => {}
                    Err(StreamError::Closed) => break,
                    Err(error) => panic!("{error:?}"),
                }
            }
        }
        OutgoingBody::finish(to, None).unwrap();
    }
}

export!(Component);
