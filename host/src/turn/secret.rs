//! The secrets that a relay shares with whoever makes credentials.
//!
//! The first that `[turn]` names may be the house's own: where no variable sets it, it is made once and kept in
//! the data folder, and the plugin that was granted its name gets the same. So a relay works without anybody having
//! to invent a secret, and nobody outside the house knows it.

use crate::config::Turn;
use crate::config::secrets::SecretText;
use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// What the relay accepts, and what plugins may get.
#[derive(Clone, Debug, Default)]
pub struct HouseSecrets {
    accepted: Vec<SecretText>,
    missing: Vec<String>,
    /// By name: for plugins that were granted it.
    pub own: BTreeMap<String, SecretText>,
}

impl HouseSecrets {
    /// What the relay accepts.
    pub(super) fn relay(&self) -> anyhow::Result<Vec<SecretText>> {
        if let Some(name) = self.missing.first() {
            bail!(
                "`secrets` in [turn] names `{name}`, which is nowhere: set the environment variable `{name}`, or \
                 take the name out."
            );
        }
        Ok(self.accepted.clone())
    }
}

/// Finds the secrets of the relay.
///
/// # Errors
/// The house's own can't be made or read, or others may read it.
pub fn house_secrets(
    turn: &Turn,
    data: &Path,
    find: impl Fn(&str) -> Option<SecretText>,
) -> anyhow::Result<HouseSecrets> {
    let mut secrets = HouseSecrets::default();
    for (number, name) in turn.secrets.iter().enumerate() {
        match find(name) {
            Some(text) => secrets.accepted.push(text),
            None if number == 0 => {
                let text = open(data)?;
                secrets.accepted.push(text.clone());
                secrets.own.insert(name.clone(), text);
            }
            None => secrets.missing.push(name.clone()),
        }
    }
    Ok(secrets)
}

/// The file `turn-secret` of the data folder, which is made the first time.
fn open(data: &Path) -> anyhow::Result<SecretText> {
    let path = data.join("turn-secret");
    let shown = path.display();
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(mut file) => {
            let text = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
            file.write_all(text.as_bytes())
                .and_then(|()| file.sync_all())
                .with_context(|| format!("the relay's secret could not be written to {shown}"))?;
            Ok(text.into())
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let mode = fs::metadata(&path)?.permissions().mode();
            if mode & 0o077 != 0 {
                bail!(
                    "others may read the relay's secret: `chmod 600 {shown}`, or delete it for a new one"
                );
            }
            let text =
                fs::read_to_string(&path).with_context(|| format!("{shown} can't be read"))?;
            let text = text.trim();
            if text.len() < 32 {
                bail!("{shown} holds no secret: delete it, and the next start makes a new one");
            }
            Ok(text.to_owned().into())
        }
        Err(error) => Err(error).with_context(|| format!("{shown} can't be made")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_houses_own_is_made_once_and_only_its_owner_may_read_it() {
        let data = tempfile::tempdir().unwrap();
        let turn = Turn::default();
        let nothing = |_: &str| None;
        let first = house_secrets(&turn, data.path(), nothing).unwrap();
        let again = house_secrets(&turn, data.path(), nothing).unwrap();
        let text =
            |secrets: &HouseSecrets| secrets.own.get("TURN_SECRET").unwrap().reveal().to_owned();
        assert_eq!(text(&first), text(&again));
        let path = data.path().join("turn-secret");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = house_secrets(&turn, data.path(), nothing).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn what_the_operator_sets_wins_and_a_second_one_must_be_set() {
        let data = tempfile::tempdir().unwrap();
        let turn = Turn { secrets: vec!["NEW".into(), "OLD".into()], ..Turn::default() };
        let set = |name: &str| (name == "NEW").then(|| "text".to_owned().into());
        let secrets = house_secrets(&turn, data.path(), set).unwrap();
        assert!(secrets.own.is_empty() && !data.path().join("turn-secret").exists());
        assert!(secrets.relay().unwrap_err().to_string().contains("OLD"));
    }
}
