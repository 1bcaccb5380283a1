//! What the AI plugins share.
//!
//! A plugin names its API and which of its paths exist; everything between a client's request and the
//! upstream's answer is here. Bodies stream both ways, and the log is written from what passes by: no byte
//! waits for it, and no request fails for it.
//!
//! | file | owns |
//! |---|---|
//! | `api` | what the upstream APIs differ in |
//! | `headers` | what crosses from a client to an upstream and back, and what must not |
//! | `proxy` | a request's way |
//! | `call` | requests of a plugin's own |
//! | `sse` | server-sent events as they pass |
//! | `usage` | tokens, from answers and from streams |
//! | `log` | entries, their keys and prices |

mod api;
mod call;
mod headers;
pub mod log;
mod proxy;
mod sse;
mod usage;

pub use api::Api;
pub use call::{Answer, CallError, call, post};
pub use headers::{preflight, with_cors};
pub use proxy::{Failure, Forward, base_url, forward, method_not_allowed, setting_or, with_query};
pub use sse::Events;
pub use usage::{Reader, Usage};
