//! What stands behind the question mark.
//!
//! Owns the words of a query. It is never part of a document's name, and words that are not known are no error:
//! people add them to get around caches.

use percent_encoding::percent_decode_str;

/// The words that mean something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    /// `list=PREFIX`: what is there.
    pub(crate) list: Option<String>,
    /// `cursor=…`: from where.
    pub(crate) cursor: Option<String>,
    /// `limit=N`: how many.
    pub(crate) limit: Option<u32>,
    /// `version=N`: that one. With PUT and POST: restore it.
    pub(crate) version: Option<u64>,
    /// `versions`: the history.
    pub(crate) versions: bool,
    /// `restore=N`
    pub(crate) restore: Option<u64>,
    /// `publish=1` or `0`
    pub(crate) publish: Option<bool>,
    /// `purge`: also what could be restored.
    pub(crate) purge: bool,
}

impl Query {
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let mut query = Self::default();
        for pair in text.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value)
                .decode_utf8()
                .map_err(|_| format!("The value of `{name}` is not UTF-8."))?;
            let number = || {
                let number = value.parse::<u64>().ok().filter(|number| *number > 0);
                number.ok_or_else(|| format!("`{name}` needs a number from 1 on."))
            };
            match name {
                "list" => query.list = Some(value.into_owned()),
                "cursor" => query.cursor = Some(value.into_owned()),
                "limit" => {
                    query.limit = Some(u32::try_from(number()?).unwrap_or(u32::MAX).min(1000));
                }
                "version" => query.version = Some(number()?),
                "versions" => query.versions = true,
                "restore" => query.restore = Some(number()?),
                "publish" => match &*value {
                    "" | "1" | "true" => query.publish = Some(true),
                    "0" | "false" => query.publish = Some(false),
                    _ => return Err("`publish` needs 1 or 0.".to_owned()),
                },
                "purge" => query.purge = true,
                _ => {}
            }
        }
        Ok(query)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_read_and_others_are_nobody_s_business() {
        let query = Query::read("list=a%2Fb&cursor=x%3D&limit=5000&v=1&utm=2").unwrap();
        assert_eq!(query.list.as_deref(), Some("a/b"));
        assert_eq!(query.cursor.as_deref(), Some("x="));
        assert_eq!(query.limit, Some(1000));
        assert_eq!(Query::read("").unwrap(), Query::default());
        assert_eq!(Query::read("publish").unwrap().publish, Some(true));
        assert!(Query::read("purge&versions").unwrap().purge);
        for wrong in ["version=0", "version=x", "restore=", "limit=-1", "publish=maybe", "list=%ff"]
        {
            assert!(Query::read(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_query_makes_it_panic(text in "\\PC*") {
            _ = Query::read(&text);
        }
    }
}
