//! What a token must say to be believed, but for its signature.
//!
//! Owns the rules for header and claims, as pure functions of the token, the operator's policy and the time.
//! The reasons are Clerk's words where Clerk has one.

use crate::keys::Alg;
use crate::token::{Malformed, Token, is_shallow};
use serde_json::{Map, Value};

/// Why a token is not believed: a word that clients see.
pub type Reason = &'static str;

/// What Clerk's tokens of machines say of themselves.
const CLERK_MACHINE: &str = "cl_B7d4PD333AAA";

/// The operator's rules.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Which algorithms may sign.
    pub algorithms: Vec<Alg>,
    /// Who may have asked for the token (`azp`); empty: anyone.
    pub authorized_parties: Vec<String>,
    /// Whether a token that does not say who asked for it passes all the same.
    pub azp_may_be_absent: bool,
    /// Whom the token is for (`aud`); empty: anyone.
    pub audience: Vec<String>,
    /// Who may vouch (`iss`); empty: whoever has the key.
    pub issuers: Vec<String>,
    /// Seconds by which clocks may differ.
    pub skew: u64,
}

/// The word for a token that can't be read.
#[must_use]
pub fn malformed(why: Malformed) -> Reason {
    match why {
        Malformed::TooLong => "token-too-long",
        Malformed::Duplicate => "token-duplicate-name",
        Malformed::Form => "token-invalid",
    }
}

/// Checks the header; gives the algorithm.
///
/// # Errors
/// The reason.
pub fn header(header: &Map<String, Value>, algorithms: &[Alg]) -> Result<Alg, Reason> {
    match header.get("typ") {
        None => {}
        Some(Value::String(typ)) if typ == "JWT" => {}
        Some(_) => return Err("token-invalid"),
    }
    let alg = header
        .get("alg")
        .and_then(Value::as_str)
        .and_then(|name| algorithms.iter().find(|alg| alg.name == name).copied())
        .ok_or("token-invalid-algorithm")?;
    // An extension that must be understood, and none is (RFC 7515 §4.1.11).
    if header.contains_key("crit") {
        return Err("token-critical-unknown");
    }
    // Clerk's tokens of machines are of another kind and are not for people's routes.
    if header.get("cat").is_some_and(|category| category == CLERK_MACHINE) {
        return Err("token-invalid");
    }
    Ok(alg)
}

/// The name of the key that the header asks for. Where to find keys (`jku`, `x5u`) and keys themselves
/// (`jwk`, `x5c`) are never read: anyone can write them.
#[must_use]
pub fn kid(header: &Map<String, Value>) -> Option<&str> {
    header.get("kid").and_then(Value::as_str)
}

/// Checks the claims at a time in milliseconds since 1970.
///
/// # Errors
/// The reason.
pub fn claims(token: &Token<'_>, rules: &Rules, now_ms: u64) -> Result<(), Reason> {
    let claims = &token.claims;
    match claims.get("sub") {
        Some(Value::String(sub)) if !sub.is_empty() && sub.len() <= 1024 => {}
        _ => return Err("token-verification-failed"),
    }
    if ["iss", "sid"].iter().any(|name| {
        claims.get(*name).is_some_and(|value| value.as_str().is_none_or(|text| text.len() > 1024))
    }) || !claims.values().all(is_shallow)
    {
        return Err("token-verification-failed");
    }
    audience(claims.get("aud"), &rules.audience)?;
    match claims.get("azp") {
        _ if rules.authorized_parties.is_empty() => {}
        Some(Value::String(azp)) if rules.authorized_parties.contains(azp) => {}
        None if rules.azp_may_be_absent => {}
        _ => return Err("token-invalid-authorized-parties"),
    }
    let skew_ms = rules.skew.saturating_mul(1000) as f64;
    let now = now_ms as f64;
    let exp = time(claims.get("exp"))?.ok_or("token-verification-failed")?;
    if exp <= now - skew_ms {
        return Err("token-expired");
    }
    if time(claims.get("nbf"))?.is_some_and(|nbf| nbf > now + skew_ms) {
        return Err("token-not-active-yet");
    }
    if time(claims.get("iat"))?.is_some_and(|iat| iat > now + skew_ms) {
        return Err("token-iat-in-the-future");
    }
    if !rules.issuers.is_empty()
        && !claims
            .get("iss")
            .and_then(Value::as_str)
            .is_some_and(|iss| rules.issuers.iter().any(|known| known == iss))
    {
        return Err("token-invalid-issuer");
    }
    Ok(())
}

/// Both sides must name one for this to be checked.
fn audience(aud: Option<&Value>, wanted: &[String]) -> Result<(), Reason> {
    if wanted.is_empty() {
        return Ok(());
    }
    let matches = |text: &str| wanted.iter().any(|wanted| wanted == text);
    let fits = match aud {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty() || matches(text),
        Some(Value::Array(list)) => {
            list.is_empty()
                || (list.iter().all(Value::is_string)
                    && list.iter().filter_map(Value::as_str).any(matches))
        }
        Some(_) => false,
    };
    if fits { Ok(()) } else { Err("token-verification-failed") }
}

/// A time in milliseconds: the claim has seconds since 1970, perhaps with a fraction.
fn time(claim: Option<&Value>) -> Result<Option<f64>, Reason> {
    match claim {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            Some(seconds) if seconds.is_finite() => Ok(Some(seconds.trunc() * 1000.0)),
            _ => Err("token-verification-failed"),
        },
    }
}

/// When a token expires, in milliseconds since 1970.
#[must_use]
pub fn expires_at(claims: &Map<String, Value>) -> Option<u64> {
    let ms = time(claims.get("exp")).ok()??;
    // A time beyond what fits is the largest that does; one before 1970 is 1970.
    Some(ms.clamp(0.0, u64::MAX as f64) as u64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    const NOW: u64 = 1_700_000_000;

    fn rules() -> Rules {
        Rules {
            algorithms: vec![Alg::named("RS256").unwrap()],
            authorized_parties: vec!["https://app".to_owned()],
            azp_may_be_absent: false,
            audience: vec!["api".to_owned()],
            issuers: Vec::new(),
            skew: 5,
        }
    }

    /// What is said of these claims, at a time in milliseconds.
    fn said(rules: &Rules, claims: &str, now_ms: u64) -> Result<(), Reason> {
        let text = format!(
            "e30.{}.c2ln",
            URL_SAFE_NO_PAD.encode(format!("{{\"sub\":\"a\",\"azp\":\"https://app\",{claims}}}"))
        );
        super::claims(&Token::parse(&text).unwrap(), rules, now_ms)
    }

    #[test]
    fn times_are_compared_with_the_skew_to_the_millisecond() {
        let at = |claims: &str, ms: i64| {
            said(&rules(), claims, (NOW * 1000).checked_add_signed(ms).unwrap())
        };
        let exp = format!("\"exp\":{NOW}");
        assert_eq!(at(&exp, 4_999), Ok(()));
        assert_eq!(at(&exp, 5_000), Err("token-expired"));
        for (name, reason) in [("nbf", "token-not-active-yet"), ("iat", "token-iat-in-the-future")]
        {
            let claims = format!("\"exp\":{},\"{name}\":{NOW}", NOW + 1000);
            assert_eq!(at(&claims, -5_000), Ok(()));
            assert_eq!(at(&claims, -5_001), Err(reason));
        }
        // A fraction of a second is cut off, as in JavaScript.
        assert_eq!(at(&format!("\"exp\":{NOW}.9"), 5_000), Err("token-expired"));
        assert_eq!(at("\"exp\":1e300", 0), Ok(()));
    }

    #[test]
    fn a_token_without_azp_passes_only_where_the_operator_says_so() {
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode("{\"sub\":\"a\",\"exp\":1e10}"));
        let token = Token::parse(&token).unwrap();
        let refused = Err("token-invalid-authorized-parties");
        assert_eq!(super::claims(&token, &rules(), NOW * 1000), refused);
        let lenient = Rules { azp_may_be_absent: true, ..rules() };
        assert_eq!(super::claims(&token, &lenient, NOW * 1000), Ok(()));
        let nobody = Rules { authorized_parties: Vec::new(), ..rules() };
        assert_eq!(super::claims(&token, &nobody, NOW * 1000), Ok(()));
    }

    #[test]
    fn an_audience_is_checked_when_both_sides_name_one() {
        let with = |aud: &str| said(&rules(), &format!("\"exp\":1e10,\"aud\":{aud}"), NOW * 1000);
        for fits in ["\"api\"", "[\"x\",\"api\"]", "[]", "\"\"", "null"] {
            assert_eq!(with(fits), Ok(()), "{fits}");
        }
        for not in ["\"x\"", "[\"x\"]", "7", "[7]", "{}"] {
            assert_eq!(with(not), Err("token-verification-failed"), "{not}");
        }
    }
}
