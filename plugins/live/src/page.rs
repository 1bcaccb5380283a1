//! The page on which a session runs.
//!
//! Owns its HTML. Everything in it was written by users: each piece is put where it can't leave its place, by
//! building the page piece by piece and never by replacing marks in a text that holds them.

use crate::session::Session;
use serde_json::Value;

/// Where the script of a page comes from.
#[derive(Clone, Copy, Debug)]
pub enum Script {
    /// The session as it is.
    Current,
    /// A version.
    Version(u32),
}

/// The page.
#[must_use]
pub fn page(session: &Session, import_map: &str, script: Script, errors: Option<&Value>) -> String {
    let name = escape(&session.code_space);
    let source = match script {
        Script::Current => format!("/live/{name}/index.js?hash={}", escape(&session.hash())),
        Script::Version(number) => format!("/live/{name}/version/{number}/index.js"),
    };
    let mut page = String::with_capacity(session.html.len() + session.css.len() + 4096);
    page += "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n";
    page += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>";
    page += &name;
    page += "</title>\n";
    if !import_map.is_empty() {
        page += "<script type=\"importmap\">";
        page += &import_map.replace('<', "\\u003c");
        page += "</script>\n";
    }
    page += "<style>\nbody { margin: 0; }\n";
    page += &in_style(&session.css);
    page += "\n</style>\n</head>\n<body>\n<div id=\"embed\">";
    page += &session.html;
    page += "</div>\n";
    if let Some(errors) = errors {
        page += "<pre id=\"errors\" role=\"alert\" style=\"position:fixed;inset:auto 0 0 0;margin:0;padding:1em;\
                 max-height:50%;overflow:auto;background:#2b0a0a;color:#ffd6d6;font:13px monospace\">";
        page += &escape(&as_text(errors));
        page += "</pre>\n";
    }
    if !session.transpiled.is_empty() {
        page += "<script type=\"module\" crossorigin=\"anonymous\">\nimport(\"";
        page += &source;
        page += "\").then((module) => globalThis.dispatchEvent(new CustomEvent(\"live-module\", { detail: module })));\n</script>\n";
    }
    page += "</body>\n</html>\n";
    page
}

/// What the transpile plugin says, for people.
#[must_use]
pub fn as_text(errors: &Value) -> String {
    let mut text = String::new();
    for error in errors.as_array().into_iter().flatten() {
        let part = |name: &str| error.get(name);
        let line = part("line").and_then(Value::as_u64).unwrap_or(0);
        let column = part("column").and_then(Value::as_u64).unwrap_or(0);
        let message = part("message").and_then(Value::as_str).unwrap_or("the code can't be read");
        let frame = part("frame").and_then(Value::as_str).unwrap_or_default();
        text += &format!("{line}:{column}: {message}\n{frame}\n");
    }
    text
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            char => out.push(char),
        }
    }
    out
}

/// In a style element only its end tag is special.
fn in_style(css: &str) -> String {
    css.replace("</", "<\\/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn session() -> Session {
        Session {
            code_space: "a".to_owned(),
            html: "<b>$& ${html}</b>".to_owned(),
            css: "p { content: \"</style><script>alert(1)</script>\" }".to_owned(),
            transpiled: "1".to_owned(),
            ..Session::default()
        }
    }

    #[test]
    fn what_users_wrote_stays_in_its_place() {
        let errors = json!([{ "message": "<script>", "line": 1, "column": 2, "frame": "^" }]);
        let page = page(&session(), "{\"a\":\"</script>\"}", Script::Current, Some(&errors));
        assert!(page.contains("<div id=\"embed\"><b>$& ${html}</b></div>"));
        assert_eq!(page.matches("</style>").count(), 1);
        assert_eq!(page.matches("</script>").count(), 2, "{page}");
        assert!(page.contains("1:2: &lt;script&gt;"));
    }

    #[test]
    fn a_page_without_javascript_asks_for_none() {
        let session = Session { transpiled: String::new(), ..session() };
        assert!(!page(&session, "", Script::Version(3), None).contains("index.js"));
        assert!(
            page(&self::session(), "", Script::Version(3), None)
                .contains("/live/a/version/3/index.js")
        );
    }
}
