//! Who may pass: identity, rate and budget.
//!
//! Owns the order of the three and what a client is told of them. It runs before a body is read, before the
//! response cache answers and before the plugin wakes. It must never let a request through because
//! something failed: a verifier that can't answer is not a yes, and an account that can't be read is not
//! an empty one.

use super::failure::{self, CallerRefusal, Refusal};
use super::preflight;
use crate::auth::{
    AuthError, Authenticator, Caller, Principal, RejectionKind, Tickets, client_address,
    strip_forged,
};
use crate::body::Body;
use crate::config::{AuthMode, Network, Plugin, Quota};
use crate::quota::{Budget, Ledger, Standing};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The fields of the IETF's draft (draft-ietf-httpapi-ratelimit-headers-10).
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Everything that decides who may pass.
pub struct Gate {
    /// Asks the auth plugin; none when the configuration names none.
    pub authenticator: Option<Authenticator>,
    /// One-time tickets that were given out.
    pub tickets: Tickets,
    /// What callers have taken.
    pub ledger: Arc<Ledger>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
}

/// A request showed a one-time ticket. None: it was no good.
#[derive(Clone)]
pub(super) struct Vouched(pub(super) Option<Arc<Principal>>);

/// A request that may pass.
pub(super) struct Passed {
    /// For the plugin; none when it asked for none of this.
    pub(super) caller: Option<Arc<Caller>>,
    limits: Limits,
    /// It came without a caller where one is required: a browser asks before it asks.
    preflight: bool,
}

impl Passed {
    /// Whether the answer is meant for a verified caller, and for nobody else.
    pub(super) fn is_verified(&self) -> bool {
        self.principal().is_some()
    }

    /// Who the caller was found to be.
    pub(super) fn principal(&self) -> Option<&Arc<Principal>> {
        self.caller.as_ref()?.principal.as_ref()
    }

    /// What goes back of the plugin's answer, and where the client stands.
    pub(super) fn finish(&self, response: Response<Body>) -> Response<Body> {
        let mut response = if self.preflight { preflight::answer(response) } else { response };
        self.limits.stamp(&mut response);
        response
    }
}

/// Where a caller stands with the limits that the plugin has.
#[derive(Default)]
struct Limits {
    rate: Option<(Quota, Standing)>,
    budget: Option<Budget>,
}

impl Limits {
    fn stamp(&self, response: &mut Response<Body>) {
        let (mut policy, mut limit) = (String::new(), String::new());
        let mut add = |name: &str, quota: Quota, left: u64, reset: u64| {
            let comma = if policy.is_empty() { "" } else { ", " };
            // Writing to a text does not fail.
            _ = write!(policy, "{comma}\"{name}\";q={};w={}", quota.count, quota.per.as_secs());
            _ = write!(limit, "{comma}\"{name}\";r={left};t={reset}");
        };
        if let Some((quota, standing)) = self.rate {
            add("requests", quota, standing.remaining, standing.reset);
        }
        if let Some(budget) = &self.budget {
            let (left, reset) = budget.remaining();
            add("tokens", budget.quota(), left, reset);
        }
        for (name, text) in [(POLICY, policy), (LIMIT, limit)] {
            if let Ok(value) = HeaderValue::from_str(&text)
                && !text.is_empty()
            {
                response.headers_mut().append(name, value);
            }
        }
    }

    fn refuse(&self, what: &'static str, seconds: u64) -> Response<Body> {
        let refusal = Refusal::Caller(CallerRefusal::TooMany(what, seconds));
        let mut response = failure::response(&refusal);
        self.stamp(&mut response);
        response
    }
}

impl Gate {
    /// Where a request really comes from.
    pub(super) fn address(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        client_address(peer.ip(), headers, &self.trusted_proxies)
    }

    /// Decides about a request to a plugin that asks for nothing: no caller, no rate, no budget. None: ask with
    /// [`pass`](Self::pass). Fields by which the request could pass for another are taken off it in any case.
    pub(super) fn pass_at_once(&self, plugin: &Plugin, request: &mut Parts) -> Option<Passed> {
        strip_forged(&mut request.headers);
        let open = plugin.auth.is_none() && plugin.rate.is_none() && plugin.budget.is_none();
        open.then(|| Passed { caller: None, limits: Limits::default(), preflight: false })
    }

    /// Decides about a request that [`pass_at_once`](Self::pass_at_once) left open.
    pub(super) async fn pass(
        &self,
        plugin: &Plugin,
        request: &mut Parts,
        peer: SocketAddr,
    ) -> Result<Passed, Response<Body>> {
        let address = self.address(peer, &request.headers);
        let vouched: Option<Vouched> = request.extensions.remove();
        let verified = match (plugin.auth, &self.authenticator) {
            (None, _) => Ok(None),
            (Some(mode), _) if let Some(Vouched(found)) = vouched => match (found, mode) {
                (None, AuthMode::Required) => Err(AuthError::ticket()),
                (found, _) => Ok(found),
            },
            (Some(mode), Some(authenticator)) => authenticator.authenticate(mode, request).await,
            // The configuration does not allow for it; and if it did: nobody was verified.
            (Some(_), None) => Err(AuthError::NotReady),
        };
        let mut preflight = false;
        let (principal, refused) = match verified {
            Ok(principal) => (principal, None),
            // Who shows something, however wrong, is no browser that asks before it asks.
            Err(AuthError::Rejected { kind: RejectionKind::Missing, .. })
                if plugin.preflight && preflight::is_one(request) =>
            {
                preflight = true;
                (None, None)
            }
            Err(error) => (None, Some(error)),
        };
        let mut limits = Limits::default();
        let mut caller = Caller { principal, budget: None, through: Vec::new() };
        if plugin.rate.is_some() || plugin.budget.is_some() {
            let name = Caller::account_name(caller.principal.as_deref(), address);
            let account = self.ledger.account(&plugin.name, &name).await.map_err(|error| {
                tracing::error!(plugin = %plugin.name, "{error}");
                failure::response(&Refusal::Storage)
            })?;
            // Who is refused has made a request all the same: guessing has its rate as well.
            if let Some(quota) = plugin.rate {
                let standing = self.ledger.take(&account, quota);
                limits.rate = Some((quota, standing));
                if !standing.allowed {
                    return Err(limits.refuse("requests", standing.reset));
                }
            }
            if let Some(quota) = plugin.budget
                && refused.is_none()
                && !preflight
            {
                let budget = self.ledger.budget(&account, quota);
                let (left, until) = budget.remaining();
                limits.budget = Some(budget.clone());
                if left == 0 {
                    return Err(limits.refuse("tokens", until));
                }
                caller.budget = Some(budget);
            }
        }
        if let Some(error) = refused {
            let mut response = failure::response(&refusal(&error));
            limits.stamp(&mut response);
            return Err(response);
        }
        Ok(Passed { caller: Some(Arc::new(caller)), limits, preflight })
    }
}

/// What a client is told of a failed authentication.
fn refusal(error: &AuthError) -> Refusal<'_> {
    let (kind, reason) = match error {
        AuthError::Rejected { kind, reason } => (kind, reason),
        AuthError::Failed(failure) => return Refusal::Plugin(failure),
        AuthError::NotReady => return Refusal::Compiling,
    };
    Refusal::Caller(match kind {
        RejectionKind::Missing => CallerRefusal::Unauthorized { reason, shown: false },
        RejectionKind::Invalid => CallerRefusal::Unauthorized { reason, shown: true },
        RejectionKind::Forbidden => CallerRefusal::Forbidden(reason),
        RejectionKind::Unavailable => CallerRefusal::Unavailable(reason),
    })
}
