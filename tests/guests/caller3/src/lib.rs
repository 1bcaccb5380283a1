//! Says who is calling, on wasi:http 0.3, where one instance serves several callers at a time.

use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
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

impl wasip3::exports::http::handler::Guest for Component {
    async fn handle(_: Request) -> Result<Response, ErrorCode> {
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
