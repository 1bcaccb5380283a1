//! Environment variables in the configuration: `${NAME}` and `${NAME:-default}`.
//!
//! They stand only where this file is called from (settings of plugins, destinations), and are read when the
//! configuration is. They are no place for secrets: what is expanded here is shown by the admin API.

/// A name as environment variables have.
pub(super) fn is_name(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Puts the variables in.
///
/// # Errors
/// A variable that is not set and has no default, or a text that can't be read, as a sentence without its
/// full stop.
pub(super) fn expand(text: &str) -> Result<String, String> {
    expand_with(text, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

fn expand_with(text: &str, get: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (inner, after) =
            after.split_once('}').ok_or_else(|| format!("`{text}` has `${{` without `}}`"))?;
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        if !is_name(name) {
            return Err(format!("`{name}` is not a name for an environment variable"));
        }
        expanded.push_str(before);
        match get(name).or_else(|| default.map(str::to_owned)) {
            Some(value) => expanded.push_str(&value),
            None => {
                return Err(format!(
                    "the environment variable `{name}` is not set: set it, or write a default as \
                     `${{{name}:-…}}`"
                ));
            }
        }
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn with(text: &str) -> Result<String, String> {
        expand_with(text, |name| (name == "SET").then(|| "here".to_owned()))
    }

    #[test]
    fn what_is_set_wins_over_its_default() {
        assert_eq!(with("a ${SET} b").unwrap(), "a here b");
        assert_eq!(with("${SET:-there}${NOT_SET:-http://x/v1}").unwrap(), "herehttp://x/v1");
        assert_eq!(with("no $variable {here}").unwrap(), "no $variable {here}");
    }

    #[test]
    fn what_is_not_set_and_has_no_default_is_named() {
        assert!(with("${NOT_SET}").unwrap_err().contains("NOT_SET"));
        assert!(with("${SET").unwrap_err().contains("without"));
        assert!(with("${a b}").unwrap_err().contains("not a name"));
    }
}
