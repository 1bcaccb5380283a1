//! With wstd.

use futures_lite::stream::unfold;
use wstd::http::{Body, Request, Response, StatusCode};
use wstd::time::Duration;

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, wstd::http::Error> {
    Ok(match request.uri().path() {
        "/" => Response::new("hello from wstd".to_owned().into()),
        "/echo" => Response::new(request.into_body()),
        "/stream" => Response::new(Body::from_try_stream(unfold(0, |number| async move {
            if number == 5 {
                return None;
            }
            wstd::task::sleep(Duration::from_millis(50)).await;
            Some((Ok::<_, std::convert::Infallible>(format!("tick {number}\n").into_bytes()), number + 1))
        }))),
        _ => Response::builder().status(StatusCode::NOT_FOUND).body(Body::empty())?,
    })
}
