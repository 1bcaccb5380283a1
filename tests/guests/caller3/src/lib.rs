//! Says who is calling, on wasi:http 0.3, where one instance serves several callers at a time. With `/ask` it asks
//! the plugin `who` for it.

use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::http::types::{ErrorCode, Fields, Request, Response, Scheme};
use wasip3::{spawn_local, wit_future, wit_stream};

#[allow(clippy::all)]
mod bindings {
    wit_bindgen::generate!({
        inline: "package tests:caller3;
            world caller { import guesthouse:identity/identity@0.1.0; }",
        path: "../../../wit",
        world: "tests:caller3/caller",
        generate_all,
    });
}

use bindings::guesthouse::identity::identity::caller;

struct Component;

wasip3::http::service::export!(Component);

fn whoami() -> String {
    caller().map_or_else(|| "nobody".to_owned(), |principal| principal.subject)
}

/// The answer of another plugin, after the other callers had their time.
async fn ask() -> Result<Response, ErrorCode> {
    wait_for(100_000_000).await;
    let (trailers_tx, trailers) = wit_future::new(|| Ok(None));
    drop(trailers_tx);
    let (outgoing, _) = Request::new(Fields::new(), None, trailers, None);
    let set = outgoing
        .set_scheme(Some(&Scheme::Http))
        .and_then(|()| outgoing.set_authority(Some("who.internal")))
        .and_then(|()| outgoing.set_path_with_query(Some("/whoami")));
    if set.is_err() {
        return Err(ErrorCode::HttpRequestUriInvalid);
    }
    let answer = wasip3::http::client::send(outgoing).await?;
    let (_, done) = wit_future::new(|| Ok(()));
    let (body, trailers) = Response::consume_body(answer, done);
    Ok(Response::new(Fields::new(), Some(body), trailers).0)
}

impl wasip3::exports::http::handler::Guest for Component {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        if request.get_path_with_query().as_deref() == Some("/ask") {
            return ask().await;
        }
        let (trailers_tx, trailers) = wit_future::new(|| Ok(None));
        drop(trailers_tx);
        let first = whoami();
        // The others come in the meantime.
        wait_for(100_000_000).await;
        let second = whoami();
        let (mut writer, reader) = wit_stream::new();
        spawn_local(async move {
            wait_for(50_000_000).await;
            let third = whoami();
            writer.write_all(format!("{first} {second} {third}").into_bytes()).await;
        });
        Ok(Response::new(Fields::new(), Some(reader), trailers).0)
    }
}
