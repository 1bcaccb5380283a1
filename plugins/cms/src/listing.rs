//! What is in a space: as JSON for programs, as a small page for a person.
//!
//! Owns the two forms. Every name goes through one function on its way into a page: names are their writers', and
//! the page is the site's.

use crate::document::Document;
use crate::place::encoded;
use crate::store::{Account, Listing, Quota};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// A page of documents.
#[must_use]
pub fn as_json(listing: &Listing, root: &str, account: Option<&Account>, quota: Quota) -> String {
    let files: Vec<Value> = listing
        .found
        .iter()
        .map(|(name, found)| {
            json!({
                "path": name,
                "url": format!("{root}{}", encoded(name)),
                "size": found.size,
                "type": found.kind,
                "etag": format!("\"{}\"", found.tag),
                "version": found.number,
                "modified": found.at,
                "published": found.published,
            })
        })
        .collect();
    let mut answer = json!({ "files": files, "cursor": listing.cursor });
    if let (Some(account), Some(fields)) = (account, answer.as_object_mut()) {
        let used = json!({
            "bytes": account.bytes, "files": account.files,
            "most_bytes": quota.bytes, "most_files": quota.files,
        });
        fields.insert("quota".to_owned(), used);
    }
    answer.to_string() + "\n"
}

/// The history of a document.
#[must_use]
pub fn history(document: &Document) -> String {
    let versions: Vec<Value> = document
        .versions
        .iter()
        .map(|version| {
            json!({
                "version": version.number,
                "etag": format!("\"{}\"", version.tag),
                "size": version.size,
                "type": version.fields.kind,
                "modified": version.at,
                "by": version.by,
                "restored_from": version.of,
            })
        })
        .collect();
    let answer = json!({
        "published": document.published,
        "deleted": document.deleted,
        "versions": versions,
    });
    answer.to_string() + "\n"
}

/// Text, as it stands in a page.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// The same page for a person, without a script.
#[must_use]
pub fn as_html(listing: &Listing, root: &str, prefix: &str, nonce: &str) -> String {
    let mut rows = String::new();
    for (name, found) in &listing.found {
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(found.at);
        // Writing to a text does not fail.
        _ = writeln!(
            rows,
            "<tr><td><a href=\"{root}{}\">{}</a><td class=\"n\">{}<td>{}<td>{}",
            encoded(name),
            escaped(name),
            found.size,
            escaped(&found.kind),
            httpdate::fmt_http_date(at),
        );
    }
    let next = listing.cursor.as_ref().map_or_else(String::new, |cursor| {
        let query = format!("?list={}&amp;cursor={}", encoded(prefix), encoded(cursor));
        format!("<p><a href=\"{root}{query}\" rel=\"next\">more</a>")
    });
    let title = escaped(&format!("{root}{prefix}"));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <style nonce=\"{nonce}\">body{{font:16px/1.5 system-ui;margin:2rem}}\
         td,th{{text-align:left;padding:.2rem 1rem .2rem 0}}.n{{text-align:right}}</style>\n\
         <h1>{title}</h1>\n<table><tr><th>Name<th>Bytes<th>Type<th>Modified\n{rows}</table>\n{next}\n"
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::Summary;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn listing(name: &str) -> Listing {
        let summary = Summary {
            size: 3,
            at: 0,
            kind: "text/html; x=\"<script>\"".into(),
            tag: "t".into(),
            number: 1,
            published: false,
            deleted: false,
        };
        Listing { found: BTreeMap::from([(name.to_owned(), summary)]), cursor: Some("c\"<".into()) }
    }

    #[test]
    fn a_listing_names_what_is_there() {
        let listing = listing("a b/ü.html");
        let text = as_json(&listing, "/my-cms/", None, Quota { bytes: 1, files: 1 });
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value.pointer("/files/0/path").unwrap(), "a b/ü.html");
        assert_eq!(value.pointer("/files/0/url").unwrap(), "/my-cms/a%20b/%C3%BC.html");
        assert_eq!(value.pointer("/files/0/etag").unwrap(), "\"t\"");
        assert_eq!(value.pointer("/cursor").unwrap(), "c\"<");
    }

    proptest! {
        #[test]
        fn no_name_breaks_out_of_a_page(name in "[<>\"'&/a-z$ ]{1,30}") {
            let page = as_html(&listing(&name), "/live-cms/", &name, "n");
            let known = ["!DOCTYPE", "html", "meta", "title", "/title", "style", "/style", "h1", "/h1",
                "table", "/table", "tr", "th", "td", "a", "/a", "p"];
            for tag in page.split('<').skip(1) {
                let word = tag.split([' ', '>', '\n']).next().unwrap();
                prop_assert!(known.contains(&word), "<{} in {}", word, page);
            }
        }
    }
}
