//! The page on which a person keeps documents.
//!
//! Owns the page and what it may do: run its own script, talk to this site, and nothing else.

use crate::listing::escaped;

const PAGE: &str = include_str!("page.html");

/// The page for this space, `/my-cms/` or `/live-cms/`, with whoever is known to call.
#[must_use]
pub fn page(root: &str, who: Option<&str>, nonce: &str) -> String {
    // The caller's name comes last: nothing in it is taken for a place to fill.
    PAGE.replace("{{nonce}}", nonce)
        .replace("{{root}}", root)
        .replace("{{who}}", &escaped(who.unwrap_or_default()))
}

/// What a page of ours may do.
#[must_use]
pub fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_a_name() {
        let page = page("/my-cms/", Some("\"><script>{{root}}"), "n1");
        assert!(page.contains("&quot;&gt;&lt;script&gt;{{root}}"));
        assert_eq!(page.matches("<script").count(), 1);
        assert!(!page.contains("{{nonce}}") && !page.contains("{{who}}"));
    }
}
