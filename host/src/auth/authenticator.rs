//! Asking the auth plugin, and keeping its answers.
//!
//! Owns the table of principals that were verified. An entry belongs to one loaded version of the auth
//! plugin and ends with it: after a swap every caller is verified anew. It ends with the proof as well, and
//! at the latest after `[auth] cache_for`. Rejections are not kept: a token may become valid.

use super::{Caller, Presented, Principal, Rejection};
use crate::config::{Auth, AuthMode};
use crate::engine::{Failure, Version};
use http::request::Parts;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

pub use guesthouse_bindings::called::exports::guesthouse::auth::verifier::RejectionKind;

/// Bytes of all claims of a caller.
const MAX_CLAIMS: usize = 64 << 10;
/// Bytes of a subject, an issuer or a session.
const MAX_TEXT: usize = 1024;
/// Characters of a reason.
const MAX_REASON: usize = 64;

/// Why a request may not go on.
#[derive(Clone, Debug)]
pub enum AuthError {
    /// The verifier (or the lack of a proof) says no.
    Rejected {
        /// What kind of no.
        kind: RejectionKind,
        /// A word for the client.
        reason: String,
    },
    /// The verifier gave no answer; the operator's log has been told.
    Failed(Failure),
    /// The auth plugin is being compiled, or could not be loaded.
    NotReady,
}

impl AuthError {
    /// A one-time ticket that is no good.
    #[must_use]
    pub fn ticket() -> Self {
        Self::rejected(RejectionKind::Invalid, "ticket-invalid")
    }

    fn rejected(kind: RejectionKind, reason: &str) -> Self {
        Self::Rejected { kind, reason: reason.to_owned() }
    }
}

/// Gives the version of the auth plugin that is active; none while there is none.
pub type ActiveVerifier = Box<dyn Fn() -> Option<Arc<Version>> + Send + Sync>;

/// Verifies callers.
pub struct Authenticator {
    verifier: ActiveVerifier,
    settings: Auth,
    /// Under the version's number and the digest of what was shown.
    kept: moka::sync::Cache<(u64, [u8; 32]), Kept>,
}

#[derive(Clone)]
struct Kept {
    principal: Arc<Principal>,
    /// Milliseconds since 1970 from which it must not be used.
    until: Option<u64>,
}

impl Authenticator {
    /// An authenticator that asks what `verifier` gives at the time of each request.
    #[must_use]
    pub fn new(settings: &Auth, verifier: ActiveVerifier) -> Self {
        let kept = moka::sync::Cache::builder()
            .weigher(|_, kept: &Kept| {
                let bytes = kept.principal.claims_json.len() + kept.principal.subject.len() + 256;
                u32::try_from(bytes).unwrap_or(u32::MAX)
            })
            .max_capacity(settings.cache_max_bytes)
            .time_to_live(settings.cache_for.max(std::time::Duration::from_millis(1)))
            .build();
        Self { verifier, settings: settings.clone(), kept }
    }

    /// The caller of a request: a verified one, or none where the mode allows for none.
    ///
    /// # Errors
    /// The request may not go on; see [`AuthError`].
    pub async fn authenticate(
        &self,
        mode: AuthMode,
        request: &Parts,
    ) -> Result<Option<Arc<Principal>>, AuthError> {
        let answer = match Presented::of(request, &self.settings.cookies) {
            Some(presented) => self.verify(presented).await,
            None => Err(AuthError::rejected(RejectionKind::Missing, "token-missing")),
        };
        match answer {
            Ok(principal) => Ok(Some(principal)),
            Err(AuthError::Rejected {
                kind: RejectionKind::Missing | RejectionKind::Invalid,
                reason,
            }) if mode == AuthMode::Optional => {
                tracing::debug!(reason, "a caller who could be verified but was not");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn verify(&self, presented: Presented) -> Result<Arc<Principal>, AuthError> {
        let Some(version) = (self.verifier)() else { return Err(AuthError::NotReady) };
        let key = (version.serial(), presented.digest);
        if let Some(kept) = self.kept.get(&key) {
            if kept.until.is_none_or(|until| now_ms() < until) {
                return Ok(kept.principal);
            }
            self.kept.invalidate(&key);
        }
        let answer = version.verify(presented.credentials).await.map_err(AuthError::Failed)?;
        match answer {
            Ok(principal) => {
                if let Err(why) = acceptable(&principal) {
                    let failure =
                        Failure::Instance(format!("the verifier's answer is no use: {why}"));
                    version.report(&failure, None);
                    return Err(AuthError::Failed(failure));
                }
                let principal = Arc::new(principal);
                let until = principal.expires_at;
                if !self.settings.cache_for.is_zero() && until.is_none_or(|until| now_ms() < until)
                {
                    self.kept.insert(key, Kept { principal: principal.clone(), until });
                }
                Ok(principal)
            }
            Err(Rejection { kind, reason }) => {
                let harmless = !reason.is_empty()
                    && reason.len() <= MAX_REASON
                    && reason.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
                let reason = if harmless { reason } else { "token-invalid".to_owned() };
                Err(AuthError::Rejected { kind, reason })
            }
        }
    }
}

/// Whether plugins can be given this.
fn acceptable(principal: &Principal) -> Result<(), &'static str> {
    let Principal { subject, issuer, session, claims_json, .. } = principal;
    if subject.is_empty() {
        return Err("the subject is empty");
    }
    if [Some(subject), issuer.as_ref(), session.as_ref()]
        .into_iter()
        .flatten()
        .any(|text| text.len() > MAX_TEXT)
    {
        return Err("a subject, issuer or session has more than 1024 bytes");
    }
    if claims_json.len() > MAX_CLAIMS {
        return Err("the claims have more than 64 KiB");
    }
    match serde_json::from_str::<serde_json::Value>(claims_json) {
        Ok(serde_json::Value::Object(_)) => Ok(()),
        _ => Err("the claims are not a JSON object"),
    }
}

impl Caller {
    /// Under which a caller's account is kept: the verified subject, else the address. Of an IPv6 address
    /// only the first half counts: the second is the client's to choose.
    #[must_use]
    pub fn account_name(principal: Option<&Principal>, address: std::net::IpAddr) -> String {
        match (principal, address) {
            (Some(principal), _) => {
                format!("s {} {}", principal.issuer.as_deref().unwrap_or("-"), principal.subject)
            }
            (None, std::net::IpAddr::V4(address)) => format!("a {address}"),
            (None, std::net::IpAddr::V6(address)) => {
                format!("a {:016x}", address.to_bits() >> 64)
            }
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn principal() -> Principal {
        Principal {
            subject: "anna".into(),
            issuer: None,
            session: None,
            expires_at: None,
            claims_json: "{}".into(),
        }
    }

    #[test]
    fn an_answer_that_plugins_could_not_use_is_not_taken() {
        assert!(acceptable(&principal()).is_ok());
        assert!(acceptable(&Principal { subject: String::new(), ..principal() }).is_err());
        assert!(acceptable(&Principal { claims_json: "[]".into(), ..principal() }).is_err());
        assert!(acceptable(&Principal { issuer: Some("x".repeat(1025)), ..principal() }).is_err());
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_CLAIMS));
        assert!(acceptable(&Principal { claims_json: long, ..principal() }).is_err());
    }

    #[test]
    fn an_account_is_the_subject_s_or_the_network_s() {
        let name = |p: Option<&Principal>, a: &str| Caller::account_name(p, a.parse().unwrap());
        assert_eq!(name(Some(&principal()), "1.1.1.1"), name(Some(&principal()), "2.2.2.2"));
        assert_ne!(name(None, "1.1.1.1"), name(None, "1.1.1.2"));
        assert_eq!(name(None, "2001:db8::1"), name(None, "2001:db8::ffff:1"));
        assert_ne!(name(None, "2001:db8::1"), name(None, "2001:db8:0:1::1"));
    }
}
