//! Where a client's token is found.
//!
//! Owns the choice between the places. The field `Authorization` wins; then the session's cookie. Clerk
//! sets that under two names while an application has several instances on one domain, and which of the
//! two counts follows from what they say and from the `__client_uat` cookies beside them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use sha1::{Digest, Sha1};

use crate::token::Token;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A token.
    Token(String),
    /// Something that is no token, in the field for it.
    Rubbish,
    /// Nothing.
    Nothing,
}

/// Where to look.
#[derive(Clone, Debug)]
pub struct Places {
    /// The name of the session's cookie.
    pub cookie: String,
    /// What Clerk puts behind the names of the cookies of this application, when the operator named it.
    pub clerk: Option<ClerkInstance>,
}

/// What follows from a publishable key of Clerk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClerkInstance {
    suffix: String,
    /// The host of its Frontend API, which is the issuer of its tokens.
    frontend_api: String,
    production: bool,
}

impl ClerkInstance {
    /// Reads a publishable key: `pk_test_` or `pk_live_`, and the Frontend API in base64 with a `$`.
    ///
    /// # Errors
    /// It is no publishable key.
    pub fn new(publishable_key: &str) -> Result<Self, String> {
        let wrong = || "`publishable_key` is not one of Clerk's (`pk_test_…`)".to_owned();
        let encoded = publishable_key
            .strip_prefix("pk_test_")
            .or_else(|| publishable_key.strip_prefix("pk_live_"))
            .ok_or_else(wrong)?;
        let host = base64::engine::general_purpose::STANDARD_NO_PAD
            .decode(encoded.trim_end_matches('='))
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(wrong)?;
        let frontend_api = host.strip_suffix('$').ok_or_else(wrong)?.to_owned();
        let digest = URL_SAFE_NO_PAD.encode(Sha1::digest(publishable_key.as_bytes()));
        Ok(Self {
            suffix: digest.get(..8).unwrap_or_default().to_owned(),
            frontend_api,
            production: publishable_key.starts_with("pk_live_"),
        })
    }
}

/// Finds the token. `now` is in seconds since 1970.
#[must_use]
pub fn find(
    authorization: Option<&str>,
    cookies: &[(String, String)],
    places: &Places,
    now: u64,
) -> Found {
    if let Some(field) = authorization {
        return bearer(field).map_or(Found::Rubbish, |token| Found::Token(token.to_owned()));
    }
    let cookie = |name: &str| {
        let mut values = cookies.iter().filter(|(known, _)| known == name).map(|(_, v)| v.as_str());
        // Of two cookies with one name, which one the application meant nobody can tell. Browsers send
        // the one of the longer path first.
        values.find(|value| !value.is_empty())
    };
    let plain = cookie(&places.cookie);
    let token = match &places.clerk {
        Some(clerk) => {
            let suffixed = |name: &str| cookie(&format!("{name}_{}", clerk.suffix));
            let session = suffixed(&places.cookie);
            let seen = (cookie("__client_uat"), suffixed("__client_uat"));
            if uses_suffixed(clerk, plain, session, seen, now) { session } else { plain }
        }
        None => plain.or_else(|| {
            let start = format!("{}_", places.cookie);
            cookies
                .iter()
                .find(|(name, value)| name.starts_with(&start) && !value.is_empty())
                .map(|(_, value)| value.as_str())
        }),
    };
    token.map_or(Found::Nothing, |token| Found::Token(token.to_owned()))
}

/// The token of `Bearer TOKEN`; the scheme is compared without case, and one blank separates.
fn bearer(field: &str) -> Option<&str> {
    let (scheme, token) = field.split_once(' ')?;
    let token = token.trim_start_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Clerk's rule for which of the two session cookies counts. The last two values are `__client_uat`, bare
/// and suffixed: when the client was last changed, `0` for signed out.
fn uses_suffixed(
    clerk: &ClerkInstance,
    plain: Option<&str>,
    suffixed: Option<&str>,
    (plain_uat, suffixed_uat): (Option<&str>, Option<&str>),
    now: u64,
) -> bool {
    let plain_claims = plain.and_then(peek);
    let suffixed_claims = suffixed.and_then(peek);
    if plain.is_some() {
        let issuer = plain_claims.as_ref().and_then(|claims| claims.get("iss")?.as_str());
        let Some(issuer) = issuer.filter(|issuer| !issuer.is_empty()) else { return false };
        let host = issuer
            .strip_prefix("https://")
            .or_else(|| issuer.strip_prefix("http://"))
            .unwrap_or(issuer);
        if host != clerk.frontend_api {
            return true;
        }
    }
    if suffixed_uat.is_none() && suffixed.is_none() {
        return false;
    }
    let number = |claims: &Option<Map<String, Value>>, name: &str| {
        claims.as_ref().and_then(|claims| claims.get(name)?.as_f64()).unwrap_or(0.0)
    };
    let (plain_out, suffixed_out) = (plain_uat == Some("0"), suffixed_uat == Some("0"));
    if !suffixed_out && !plain_out && number(&plain_claims, "iat") > number(&suffixed_claims, "iat")
    {
        return false;
    }
    if suffixed_out && !plain_out {
        return false;
    }
    let expired = suffixed_claims.is_some() && number(&suffixed_claims, "exp") <= now as f64;
    if !clerk.production && !suffixed_out && plain_out && expired {
        return false;
    }
    suffixed_uat.is_some() || suffixed.is_none()
}

/// What a token says, believed by nobody.
fn peek(text: &str) -> Option<Map<String, Value>> {
    Some(Token::parse(text).ok()?.claims)
}

/// The cookies of all `Cookie` fields.
#[must_use]
pub fn cookies(fields: &[String]) -> Vec<(String, String)> {
    fields
        .iter()
        .flat_map(|field| field.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn places(key: Option<&str>) -> Places {
        Places { cookie: "__session".into(), clerk: key.map(|k| ClerkInstance::new(k).unwrap()) }
    }

    fn found(authorization: Option<&str>, cookie: &str, places: &Places) -> Found {
        find(authorization, &cookies(&[cookie.to_owned()]), places, 1000)
    }

    fn token(text: &str) -> Found {
        Found::Token(text.to_owned())
    }

    #[test]
    fn the_field_wins_and_the_scheme_is_checked() {
        let places = places(None);
        assert_eq!(found(Some("Bearer abc"), "__session=def", &places), token("abc"));
        assert_eq!(found(Some("bearer abc"), "", &places), token("abc"));
        assert_eq!(found(None, "a=b; __session=def", &places), token("def"));
        assert_eq!(found(None, "__session_x=def", &places), token("def"));
        assert_eq!(found(None, "", &places), Found::Nothing);
        for rubbish in ["Basic abc", "abc", "Bearer", "Bearer ", ""] {
            assert_eq!(found(Some(rubbish), "__session=def", &places), Found::Rubbish, "{rubbish}");
        }
    }

    /// `clerk.example.com$`
    const KEY: &str = "pk_test_Y2xlcmsuZXhhbXBsZS5jb20k";

    fn session(iss: &str, iat: u64, exp: u64) -> String {
        let claims = serde_json::json!({ "iss": iss, "iat": iat, "exp": exp });
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    #[test]
    fn a_publishable_key_names_the_instance() {
        let clerk = ClerkInstance::new(KEY).unwrap();
        assert_eq!(clerk.frontend_api, "clerk.example.com");
        assert_eq!(clerk.suffix.len(), 8);
        assert!(!clerk.production);
        for wrong in ["", "sk_test_x", "pk_test_", "pk_test_Y2xlcms"] {
            assert!(ClerkInstance::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn of_two_session_cookies_the_one_counts_that_clerk_would_take() {
        let places = places(Some(KEY));
        let suffix = places.clerk.as_ref().unwrap().suffix.clone();
        let ours = "https://clerk.example.com";
        let (old, new) = (session(ours, 100, 5000), session(ours, 200, 5000));
        let (stale, foreign) = (session(ours, 100, 900), session("https://other", 300, 5000));
        let with = |plain: &str, suffixed: &str, uat: &str, suffixed_uat: &str| {
            let mut cookie = String::new();
            for (name, value) in [
                ("__session".to_owned(), plain),
                (format!("__session_{suffix}"), suffixed),
                ("__client_uat".to_owned(), uat),
                (format!("__client_uat_{suffix}"), suffixed_uat),
            ] {
                if !value.is_empty() {
                    cookie += &format!("{name}={value}; ");
                }
            }
            found(None, &cookie, &places)
        };
        // Only one of the two is there.
        assert_eq!(with(&old, "", "1", ""), token(&old));
        assert_eq!(with("", &old, "", "1"), token(&old));
        // Both are signed in: the newer counts.
        assert_eq!(with(&new, &old, "1", "1"), token(&new));
        assert_eq!(with(&old, &new, "1", "1"), token(&new));
        // The bare one is of another instance.
        assert_eq!(with(&foreign, &old, "1", "1"), token(&old));
        // One of the two is signed out.
        assert_eq!(with(&old, &new, "1", "0"), token(&old));
        assert_eq!(with(&old, &new, "0", "1"), token(&new));
        assert_eq!(with(&old, &stale, "0", "1"), token(&old));
        // A bare one that names no issuer counts as it is.
        assert_eq!(with("rubbish", &new, "1", "1"), token("rubbish"));
    }
}
