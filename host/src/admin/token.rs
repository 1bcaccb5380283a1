//! The operator's token.
//!
//! Owns one secret, kept in the data folder so that only its owner can read it. It is compared in constant
//! time and never shown.

use anyhow::{Context, bail};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use subtle::ConstantTimeEq;

/// The bearer token of the admin API.
pub struct Token(String);

impl Token {
    /// `GUESTHOUSE_TOKEN`, or the file `admin-token` of the data folder, which is made at the first start.
    ///
    /// # Errors
    /// The file can't be made or read, is empty, or can be read by others.
    pub fn open(data: &Path) -> anyhow::Result<Self> {
        if let Ok(token) = std::env::var("GUESTHOUSE_TOKEN") {
            if token.len() < 16 {
                bail!("GUESTHOUSE_TOKEN is too short for a token: use at least 16 characters");
            }
            return Ok(Self(token));
        }
        let path = data.join("admin-token");
        let shown = path.display();
        match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => {
                let token = hex::encode(rand::random::<[u8; 32]>());
                file.write_all(token.as_bytes())
                    .and_then(|()| file.sync_all())
                    .with_context(|| format!("the admin token could not be written to {shown}"))?;
                Ok(Self(token))
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let mode = fs::metadata(&path)?.permissions().mode();
                if mode & 0o077 != 0 {
                    bail!(
                        "others may read the admin token: `chmod 600 {shown}`, or delete it for a new one"
                    );
                }
                let token =
                    fs::read_to_string(&path).with_context(|| format!("{shown} can't be read"))?;
                let token = token.trim().to_owned();
                if token.len() < 16 {
                    bail!("{shown} holds no token: delete it, and the next start makes a new one");
                }
                Ok(Self(token))
            }
            Err(error) => Err(error).with_context(|| format!("{shown} can't be made")),
        }
    }

    /// Whether an `Authorization` header carries this token.
    pub(super) fn is_in(&self, headers: &http::HeaderMap) -> bool {
        headers
            .get(http::header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .is_some_and(|(_, token)| token.trim().as_bytes().ct_eq(self.0.as_bytes()).into())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_made_once_and_only_its_owner_may_read_it() {
        let data = tempfile::tempdir().unwrap();
        let first = Token::open(data.path()).unwrap();
        let second = Token::open(data.path()).unwrap();
        assert_eq!(first.0, second.0);
        let path = data.path().join("admin-token");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Token::open(data.path()).err().unwrap().to_string().contains("chmod 600"));
    }
}
