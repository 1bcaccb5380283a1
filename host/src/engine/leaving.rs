//! What leaves an instance.
//!
//! Owns the order between a room's storage and the world outside: a request of a room leaves when what its event
//! has written so far is durable, and with it all events before. The danger that shaped it: a server elsewhere
//! that acted upon what a crash then took back.

use crate::capabilities::fetch::Outbound;
use crate::rooms::event::Event;
use http::{Request, Response};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

/// The way out of one instance.
pub(super) struct Leaving {
    /// Where requests go.
    pub(super) outbound: Outbound,
    /// The event that runs, in the instance of a room.
    pub(super) room: Option<Box<Event>>,
}

type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Box<dyn Future<Output = Result<(Response<WasiBody>, Io), Error>> + Send>;

impl WasiHttpHooks for Leaving {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        sent: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Sent {
        let sending = self.outbound.send_request(request, options, sent);
        let Some(event) = &mut self.room else { return sending };
        let committed = event.commit_soon();
        Box::new(async move {
            let not_kept = |_| {
                Error::InternalError(Some("what the event wrote before could not be kept".into()))
            };
            committed.await.map_err(not_kept)?;
            Box::into_pin(sending).await
        })
    }
}
