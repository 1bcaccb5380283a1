//! Public keys, and which signatures they may verify.
//!
//! Owns the rule that a key verifies signatures of its own kind and no other: an RSA key is no secret for
//! HMAC, and a P-384 key no P-256 key. Keys come from the operator's configuration or from the issuer, never
//! from a token.

use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::Deserialize;

/// Bytes of the DER form of an RSA key of 2048 bits, with the shortest exponent; those of a shorter key
/// are fewer.
const RSA_2048_DER: usize = 266;

/// The algorithms that there are. HMAC is not among them: whoever can verify it can sign.
const ALGORITHMS: [(&str, Algorithm, Kind); 9] = [
    ("RS256", Algorithm::RS256, Kind::Rsa),
    ("RS384", Algorithm::RS384, Kind::Rsa),
    ("RS512", Algorithm::RS512, Kind::Rsa),
    ("PS256", Algorithm::PS256, Kind::Rsa),
    ("PS384", Algorithm::PS384, Kind::Rsa),
    ("PS512", Algorithm::PS512, Kind::Rsa),
    ("ES256", Algorithm::ES256, Kind::P256),
    ("ES384", Algorithm::ES384, Kind::P384),
    ("EdDSA", Algorithm::EdDSA, Kind::Ed25519),
];

/// What a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// An algorithm that may be in the operator's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alg {
    /// Its name in a token's header.
    pub name: &'static str,
    algorithm: Algorithm,
    kind: Kind,
}

impl Alg {
    /// The algorithm of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let (name, algorithm, kind) = ALGORITHMS.into_iter().find(|(known, ..)| *known == name)?;
        Some(Self { name, algorithm, kind })
    }
}

/// A public key.
#[derive(Clone)]
pub struct Key {
    /// Its name.
    pub kid: Option<String>,
    /// The one algorithm that it is for, if its owner said so.
    alg: Option<String>,
    kind: Kind,
    key: DecodingKey,
}

impl Key {
    /// A key in PEM. `\n` in two characters counts as the end of a line, as in environment variables.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn from_pem(pem: &str, kid: Option<String>) -> Result<Self, String> {
        let pem = pem.replace("\\n", "\n");
        let pem = pem.trim().as_bytes();
        let (kind, key) = if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
            let long_enough = key.try_get_as_bytes().is_ok_and(|der| der.len() >= RSA_2048_DER);
            if !long_enough {
                return Err("the RSA key has fewer than 2048 bits".to_owned());
            }
            (Kind::Rsa, key)
        } else if let Ok(key) = DecodingKey::from_ec_pem(pem) {
            let kind = match key.try_get_as_bytes().map(<[u8]>::len) {
                Ok(65) => Kind::P256,
                Ok(97) => Kind::P384,
                _ => return Err("the elliptic curve is neither P-256 nor P-384".to_owned()),
            };
            (kind, key)
        } else if let Ok(key) = DecodingKey::from_ed_pem(pem) {
            (Kind::Ed25519, key)
        } else {
            return Err("this is not a public key in PEM (`-----BEGIN PUBLIC KEY-----`)".to_owned());
        };
        Ok(Self { kid, alg: None, kind, key })
    }

    /// Whether the signature (in base64) over the message is this key's, made by this algorithm.
    #[must_use]
    pub fn verifies(&self, alg: Alg, message: &str, signature: &str) -> bool {
        alg.kind == self.kind
            && self.alg.as_ref().is_none_or(|only| only == alg.name)
            && crypto::verify(signature, message.as_bytes(), &self.key, alg.algorithm)
                .unwrap_or(false)
    }
}

/// A key as an issuer publishes it (RFC 7517).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<serde_json::Value>,
}

/// The keys of a set that verify signatures; others are passed over, since an issuer may publish what we
/// don't know.
///
/// # Errors
/// It is no set of keys.
pub fn parse_set(text: &str) -> Result<Vec<Key>, String> {
    let set: JwkSet = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok(set.keys.into_iter().filter_map(|key| from_jwk(serde_json::from_value(key).ok()?)).collect())
}

fn from_jwk(jwk: Jwk) -> Option<Key> {
    let for_signatures = jwk.r#use.as_deref().is_none_or(|of| of == "sig")
        && jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    if !for_signatures {
        return None;
    }
    let (kind, key) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => {
            let n = jwk.n?;
            // Four characters for each three bytes: 2048 bits are 342 characters.
            if n.len() < 342 {
                return None;
            }
            (Kind::Rsa, DecodingKey::from_rsa_components(&n, &jwk.e?).ok()?)
        }
        ("EC", Some("P-256")) => {
            (Kind::P256, DecodingKey::from_ec_components(&jwk.x?, &jwk.y?).ok()?)
        }
        ("EC", Some("P-384")) => {
            (Kind::P384, DecodingKey::from_ec_components(&jwk.x?, &jwk.y?).ok()?)
        }
        ("OKP", Some("Ed25519")) => (Kind::Ed25519, DecodingKey::from_ed_components(&jwk.x?).ok()?),
        _ => return None,
    };
    Some(Key { kid: jwk.kid, alg: jwk.alg, kind, key })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_none_and_no_hmac() {
        for name in ["none", "None", "NONE", "HS256", "HS512", "rs256", "", "ES512", "ES256K"] {
            assert!(Alg::named(name).is_none(), "{name}");
        }
        assert_eq!(Alg::named("RS256").unwrap().name, "RS256");
    }

    #[test]
    fn keys_that_are_not_for_signatures_or_too_short_are_passed_over() {
        let n = "x".repeat(341) + "A";
        let set = |rest: &str| {
            let text = format!(r#"{{"keys":[{{"kty":"RSA","e":"AQAB",{rest}}}]}}"#);
            parse_set(&text).unwrap().len()
        };
        assert_eq!(set(&format!(r#""n":"{n}""#)), 1);
        assert_eq!(set(&format!(r#""n":"{n}","use":"sig","key_ops":["verify"]"#)), 1);
        assert_eq!(set(&format!(r#""n":"{n}","use":"enc""#)), 0);
        assert_eq!(set(&format!(r#""n":"{n}","key_ops":["encrypt"]"#)), 0);
        assert_eq!(set(r#""n":"abcd""#), 0);
        assert_eq!(
            parse_set(r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}, 7, null]}"#).unwrap().len(),
            0
        );
        assert!(parse_set("{}").is_err());
        assert!(parse_set("<html>").is_err());
    }

    #[test]
    fn what_is_no_public_key_says_so() {
        for text in ["", "secret", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"] {
            assert!(Key::from_pem(text, None).err().unwrap().contains("PEM"), "{text}");
        }
    }
}
