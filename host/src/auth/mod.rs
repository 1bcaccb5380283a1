//! Who is calling.
//!
//! Owns the way from what a client shows to a verified principal: it asks the auth plugin and keeps its
//! answers for as long as they hold. It must never take anything for a yes but an answer of the verifier
//! that is active at the moment; and nothing that a client sends reaches a plugin under the name of an
//! identity. The dangers that shaped it: a header that anyone can write, and an answer that outlives the
//! policy it was given under.
//!
//! | file | owns |
//! |---|---|
//! | `credentials` | what a client shows, and its digest |
//! | `authenticator` | asking, keeping, refusing |
//! | `address` | where a request really comes from |
//! | `tickets` | one-time tickets |
//! | `issuer` | the house's own issuer, for development |

mod address;
mod authenticator;
mod credentials;
mod issuer;
mod tickets;

pub use address::client_address;
pub use authenticator::{ActiveVerifier, AuthError, Authenticator, RejectionKind};
pub use credentials::{Presented, strip_forged};
pub use issuer::{Claims, DEV_ISSUER, DevIssuer};
pub use tickets::{Tickets, TooManyTickets};

pub use guesthouse_bindings::called::exports::guesthouse::auth::verifier::{
    Credentials, Rejection,
};
pub use guesthouse_bindings::guesthouse::identity::identity::Principal;

use crate::quota::Budget;
use std::sync::Arc;

/// The caller of one request, as its plugin may know of it.
#[derive(Clone, Default)]
pub struct Caller {
    /// Who it is, when that was verified.
    pub principal: Option<Arc<Principal>>,
    /// What the caller may spend, when the plugin has a budget.
    pub budget: Option<Budget>,
    /// The plugins that the request came through, the first of them first; empty for a request that a
    /// client sent to this plugin itself.
    pub through: Vec<Arc<str>>,
}
