//! Secrets: from the environment, and in development from `.dev.vars`.
//!
//! Owns the texts of the secrets that plugins were granted. They are never printed, logged or given to
//! the admin API; the type that holds one does not show it.

use super::fetch::FetchGrant;
use super::{ConfigErrors, Plugin, Problem};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A secret's text.
#[derive(Clone)]
pub struct SecretText(Arc<str>);

impl SecretText {
    /// The text itself: only for handing it to the plugin that was granted it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

/// Where secrets are found: real environment variables win over `.dev.vars` beside the configuration, which is
/// read only with `dev`.
pub struct Sources(BTreeMap<String, String>);

impl Sources {
    /// Reads what there is to read.
    ///
    /// # Errors
    /// A `.dev.vars` with a line that is not `NAME=value`.
    pub fn open(file: &Path, dev: bool) -> Result<Self, ConfigErrors> {
        let path = file.with_file_name(".dev.vars");
        let mut problems = Vec::new();
        let mut vars = BTreeMap::new();
        if dev && let Ok(text) = std::fs::read_to_string(&path) {
            vars = parse_vars(&text, &mut problems);
        }
        if problems.is_empty() {
            Ok(Self(vars))
        } else {
            Err(ConfigErrors::new(&path, "", problems))
        }
    }

    /// One secret.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<SecretText> {
        let set = std::env::var(name).ok().or_else(|| self.0.get(name).cloned());
        // A variable that is set to nothing is how many tools unset one.
        set.filter(|text| !text.is_empty()).map(SecretText::from)
    }
}

/// All secrets that any plugin was granted.
#[derive(Clone, Debug, Default)]
pub struct Secrets(BTreeMap<String, SecretText>);

impl Secrets {
    /// Looks up every granted secret (see [`Sources`]); `house` has those that are the house's own where nobody
    /// sets them.
    ///
    /// # Errors
    /// A granted secret that is nowhere, or a `.dev.vars` that can't be read.
    pub fn load<'a>(
        file: &Path,
        plugins: impl Iterator<Item = &'a Plugin>,
        dev: bool,
        house: &BTreeMap<String, SecretText>,
    ) -> Result<Self, ConfigErrors> {
        let path = file.with_file_name(".dev.vars");
        let mut problems = Vec::new();
        let mut secrets = BTreeMap::new();
        let sources = Sources::open(file, dev)?;
        let find = |name: &String| sources.find(name).or_else(|| house.get(name).cloned());
        for plugin in plugins {
            for name in plugin.fetch.iter().flat_map(FetchGrant::secrets) {
                match find(name) {
                    Some(text) => {
                        secrets.insert(name.clone(), text);
                    }
                    // The house starts all the same: what needs the secret says so when it is asked.
                    None => tracing::warn!(
                        plugin = %plugin.name,
                        "the secret `{name}` is not set: requests that it would be sent with are refused \
                         until it is"
                    ),
                }
            }
            for name in &plugin.secrets {
                match find(name) {
                    Some(text) => {
                        secrets.insert(name.clone(), text);
                    }
                    None => problems.push(Problem {
                        span: None,
                        message: format!(
                            "[plugins.{}] was granted the secret `{name}`, which is nowhere: set the \
                             environment variable `{name}`{}.",
                            plugin.name,
                            if dev {
                                format!(", or write `{name}=…` into {}", path.display())
                            } else {
                                " (`.dev.vars` is read only with --env dev)".to_owned()
                            }
                        ),
                    }),
                }
            }
        }
        if problems.is_empty() {
            Ok(Self(secrets))
        } else {
            Err(ConfigErrors::new(file, "", problems))
        }
    }

    /// One secret.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&SecretText> {
        self.0.get(name)
    }
}

/// `NAME=value` lines; `#` begins a comment; single or double quotes around a value are taken off.
fn parse_vars(text: &str, problems: &mut Vec<Problem>) -> BTreeMap<String, String> {
    let mut vars = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let content = content.strip_prefix("export ").unwrap_or(content);
        let Some((name, value)) = content.split_once('=') else {
            problems.push(Problem {
                // The line itself may hold a secret and is not shown: hence its number and no span.
                span: None,
                message: format!("line {} is not `NAME=value`.", number + 1),
            });
            continue;
        };
        let value = value.trim();
        let unquoted = ['"', '\'']
            .iter()
            .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote))
            .unwrap_or_else(|| value.split(" #").next().unwrap_or(value).trim_end());
        vars.insert(name.trim().to_owned(), unquoted.to_owned());
    }
    vars
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn dev_vars_are_read_as_dotenv_does() {
        let mut problems = Vec::new();
        let vars = parse_vars(
            "# comment\nA=1\nexport B=\"two words\"\nC='x#y'\nD=plain # comment\n\nE=a=b\n",
            &mut problems,
        );
        assert!(problems.is_empty());
        let get = |name: &str| vars.get(name).map(String::as_str);
        assert_eq!(get("A"), Some("1"));
        assert_eq!(get("B"), Some("two words"));
        assert_eq!(get("C"), Some("x#y"));
        assert_eq!(get("D"), Some("plain"));
        assert_eq!(get("E"), Some("a=b"));
    }

    #[test]
    fn a_line_that_is_no_variable_is_a_problem_with_its_place() {
        let mut problems = Vec::new();
        parse_vars("A=1\nsk-live-123\n", &mut problems);
        assert_eq!(problems.len(), 1);
        assert!(problems.first().unwrap().message.contains("line 2"));
        assert!(!problems.first().unwrap().message.contains("sk-live"));
    }

    #[test]
    fn a_secret_does_not_show_its_text() {
        let secret = SecretText::from("sk-live-123".to_owned());
        assert!(!format!("{secret:?}").contains("sk-live"));
    }
}
