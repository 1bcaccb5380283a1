//! With waki, on an old wasi:http.

use waki::{ErrorCode, Request, Response, handler};

#[handler]
fn handle(request: Request) -> Result<Response, ErrorCode> {
    match request.path() {
        "/" => Response::builder().body(b"hello from waki".as_slice()).build(),
        "/echo" => {
            let body = request.body().map_err(|_| ErrorCode::InternalError(None))?;
            Response::builder().body(body).build()
        }
        _ => Response::builder().status_code(404).build(),
    }
}
