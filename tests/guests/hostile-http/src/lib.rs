//! What a host must survive of a guest that uses wasi:http 0.2 as nobody should.

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
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let number = query.parse::<u32>().unwrap_or(0);
        match path {
            // As many fields as it is asked for, whether the host likes it or not.
            "/headers" => {
                let fields = Fields::new();
                let all = (0..number).all(|n| fields.append(&format!("x-{n}"), b"y").is_ok());
                let status = if all { 200 } else { 507 };
                if status == 507 {
                    return simple(out, Fields::new(), status, b"refused");
                }
                simple(out, fields, status, b"all");
            }
            "/crlf" => {
                let fields = Fields::new();
                let value = fields.append("x-a", b"b\r\nset-cookie: stolen=1").is_ok();
                let name = fields.append("x-a: b\r\nset-cookie", b"stolen=1").is_ok();
                simple(out, fields, 200, format!("{value} {name}").as_bytes());
            }
            // Fields that are the server's own.
            "/framing" => {
                let fields = Fields::new();
                let taken = ["connection", "transfer-encoding", "keep-alive", "upgrade"]
                    .iter()
                    .filter(|name| fields.append(name, b"chunked").is_ok())
                    .count();
                simple(out, fields, 200, taken.to_string().as_bytes());
            }
            // More, or less, than the length that it promised.
            "/length" => {
                let fields = Fields::new();
                fields.append("content-length", b"10").unwrap();
                let response = OutgoingResponse::new(fields);
                let body = response.body().unwrap();
                ResponseOutparam::set(out, Ok(response));
                let stream = body.write().unwrap();
                _ = stream.blocking_write_and_flush(&vec![b'x'; number as usize]);
                drop(stream);
                _ = OutgoingBody::finish(body, None);
            }
            "/endless" => endless(out, false),
            // Goes on writing when the client has gone.
            "/deaf" => endless(out, true),
            // Writes without asking whether there is room.
            "/flood" => {
                let (body, response) = begin();
                ResponseOutparam::set(out, Ok(response));
                let stream = body.write().unwrap();
                loop {
                    stream.write(&[b'x'; 65536]).unwrap();
                }
            }
            "/panic-in-body" => {
                let (body, response) = begin();
                ResponseOutparam::set(out, Ok(response));
                let stream = body.write().unwrap();
                stream.blocking_write_and_flush(b"the first half, and ").unwrap();
                panic!("in the middle");
            }
            // Reads what the client has long stopped sending.
            "/read" => {
                let body = request.consume().unwrap();
                let stream = body.stream().unwrap();
                let mut read = 0;
                loop {
                    match stream.blocking_read(1 << 16) {
                        Ok(bytes) => read += bytes.len(),
                        Err(StreamError::Closed) => break,
                        // A failure is no reason for it to stop.
                        Err(_) => match number {
                            0 => break,
                            _ => continue,
                        },
                    }
                }
                simple(out, Fields::new(), 200, read.to_string().as_bytes());
            }
            // Requests to the outside, all at a time.
            "/storm" => {
                let mut denied = 0;
                let mut open = Vec::new();
                for _ in 0..number {
                    let request = OutgoingRequest::new(Fields::new());
                    _ = request.set_scheme(Some(&Scheme::Http));
                    _ = request.set_authority(Some("127.0.0.1:1"));
                    match outgoing_handler::handle(request, None) {
                        Ok(response) => open.push(response),
                        Err(_) => denied += 1,
                    }
                }
                for response in open {
                    response.subscribe().block();
                    denied += u32::from(matches!(response.get(), Some(Ok(Err(_)))));
                }
                simple(out, Fields::new(), 200, denied.to_string().as_bytes());
            }
            // Handles, until the host has no more.
            "/handles" => {
                let mut all = Vec::new();
                loop {
                    all.push(Fields::new());
                }
            }
            "/silent" => {}
            "/error" => ResponseOutparam::set(out, Err(ErrorCode::DestinationUnavailable)),
            _ => simple(out, Fields::new(), 200, b"fine"),
        }
    }
}

fn begin() -> (OutgoingBody, OutgoingResponse) {
    let response = OutgoingResponse::new(Fields::new());
    (response.body().unwrap(), response)
}

fn simple(out: ResponseOutparam, fields: Fields, status: u16, text: &[u8]) {
    let response = OutgoingResponse::new(fields);
    response.set_status_code(status).unwrap();
    let body = response.body().unwrap();
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().unwrap();
    stream.blocking_write_and_flush(text).unwrap();
    drop(stream);
    OutgoingBody::finish(body, None).unwrap();
}

fn endless(out: ResponseOutparam, deaf: bool) {
    let (body, response) = begin();
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().unwrap();
    loop {
        if stream.blocking_write_and_flush(&[b'x'; 4096]).is_err() && !deaf {
            return;
        }
    }
}

export!(Component);
