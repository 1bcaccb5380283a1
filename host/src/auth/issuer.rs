//! The house's own issuer, for development.
//!
//! Owns one Ed25519 key in the data folder. In development the auth plugin is told its public half and
//! accepts what it signed, so that everything can be tried without an account anywhere. With `--env prod` the
//! key is never read and the auth plugin never hears of it: a token of this issuer is then one of an unknown
//! key. The danger that shaped it: a development door that stays open in production.

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_compact::{KeyPair, Seed};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The `iss` of its tokens, and the `kid` of its key.
pub const DEV_ISSUER: &str = "guesthouse-dev";

/// What stands before the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The claims of a token beside those that every token has.
pub type Claims = serde_json::Map<String, serde_json::Value>;

/// The issuer.
pub struct DevIssuer(KeyPair);

impl DevIssuer {
    /// The key `dev-issuer-key` of the data folder, which is made the first time.
    ///
    /// # Errors
    /// The file can't be made or read, others may read it, or it holds no key.
    pub fn open(data: &Path) -> anyhow::Result<Self> {
        let path = data.join("dev-issuer-key");
        let shown = path.display();
        match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => {
                let key = rand::random::<[u8; 32]>();
                file.write_all(hex::encode(key).as_bytes())
                    .and_then(|()| file.sync_all())
                    .with_context(|| {
                        format!("the development key could not be written to {shown}")
                    })?;
                Self::of(key)
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let mode = fs::metadata(&path)?.permissions().mode();
                if mode & 0o077 != 0 {
                    bail!(
                        "others may read the development key: `chmod 600 {shown}`, or delete it for a new one"
                    );
                }
                let text =
                    fs::read_to_string(&path).with_context(|| format!("{shown} can't be read"))?;
                let mut key = [0; 32];
                hex::decode_to_slice(text.trim(), &mut key).with_context(|| {
                    format!("{shown} holds no key: delete it, and the next start makes a new one")
                })?;
                Self::of(key)
            }
            Err(error) => Err(error).with_context(|| format!("{shown} can't be made")),
        }
    }

    fn of(seed: [u8; 32]) -> anyhow::Result<Self> {
        let pair = KeyPair::try_from_seed(Seed::new(seed));
        Ok(Self(pair.map_err(|error| anyhow::anyhow!("the development key is no key: {error}"))?))
    }

    /// The public half, as the auth plugin is told it.
    #[must_use]
    pub fn public_pem(&self) -> String {
        let mut der = SPKI.to_vec();
        der.extend_from_slice(self.0.pk.as_ref());
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
    }

    /// A token for a subject. `claims` win over what the issuer would say by itself.
    #[must_use]
    pub fn token(&self, subject: &str, claims: Claims, ttl: Duration) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut payload = serde_json::json!({
            "iss": DEV_ISSUER,
            "sub": subject,
            "sid": format!("sess_{}", hex::encode(rand::random::<[u8; 8]>())),
            "iat": now,
            "nbf": now,
            "exp": now.saturating_add(ttl.as_secs()),
        });
        if let Some(payload) = payload.as_object_mut() {
            payload.extend(claims);
        }
        let header = serde_json::json!({ "alg": "EdDSA", "typ": "JWT", "kid": DEV_ISSUER });
        let part = |json: &serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!("{}.{}", part(&header), part(&payload));
        let signature = self.0.sk.sign(message.as_bytes(), None);
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_only_its_owner_may_read_it() {
        let data = tempfile::tempdir().unwrap();
        let first = DevIssuer::open(data.path()).unwrap().public_pem();
        assert_eq!(first, DevIssuer::open(data.path()).unwrap().public_pem());
        let path = data.path().join("dev-issuer-key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(DevIssuer::open(data.path()).err().unwrap().to_string().contains("chmod 600"));
    }

    #[test]
    fn a_token_has_the_claims_it_was_asked_for_and_a_signature_that_verifies() {
        let data = tempfile::tempdir().unwrap();
        let issuer = DevIssuer::open(data.path()).unwrap();
        let mut claims = Claims::new();
        claims.insert("role".into(), "admin".into());
        let token = issuer.token("demo-user", claims, Duration::from_secs(60));
        let (message, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let signature = ed25519_compact::Signature::from_slice(&signature).unwrap();
        issuer.0.pk.verify(message, &signature).unwrap();
        let payload = URL_SAFE_NO_PAD.decode(message.split_once('.').unwrap().1).unwrap();
        let payload: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(payload.get("sub").unwrap(), "demo-user");
        assert_eq!(payload.get("role").unwrap(), "admin");
    }
}
