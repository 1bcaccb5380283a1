//! What a document is.
//!
//! Owns the media type of an upload that came without one: by its name, else by its first bytes. It never looks
//! at a URL's query, and never guesses a type that runs where nothing says that it is a page or a script.

/// Bytes that are looked at.
pub const LOOK: usize = 1024;

/// The media type of a document with this name and these first bytes.
#[must_use]
pub fn of(name: &str, first: &[u8]) -> String {
    let file = name.rsplit('/').next().unwrap_or_default();
    let by_name = match file.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase()).as_deref() {
        Some("mjs" | "js") => Some("text/javascript".to_owned()),
        Some("wasm") => Some("application/wasm".to_owned()),
        Some("webmanifest") => Some("application/manifest+json".to_owned()),
        // Elsewhere these are television and Qt.
        Some("ts" | "mts" | "cts" | "tsx" | "jsx") => Some("text/plain".to_owned()),
        Some(_) => mime_guess::from_path(file).first().map(|kind| kind.to_string()),
        None => None,
    };
    let kind = by_name.unwrap_or_else(|| by_bytes(first).to_owned());
    if is_text(&kind) && !kind.contains("charset") { kind + "; charset=utf-8" } else { kind }
}

/// Whether a type is text, and worth compressing.
#[must_use]
pub fn is_text(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || matches!(
            kind.as_str(),
            "application/json" | "application/javascript" | "application/xml" | "application/toml"
        )
}

fn by_bytes(first: &[u8]) -> &'static str {
    const MAGIC: [(&[u8], &str); 17] = [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"%PDF-", "application/pdf"),
        (b"\0asm", "application/wasm"),
        (b"PK\x03\x04", "application/zip"),
        (b"\x1f\x8b", "application/gzip"),
        (b"wOFF", "font/woff"),
        (b"wOF2", "font/woff2"),
        (b"OTTO", "font/otf"),
        (b"\0\x01\0\0", "font/ttf"),
        (b"OggS", "audio/ogg"),
        (b"ID3", "audio/mpeg"),
        (b"fLaC", "audio/flac"),
        (b"\x1a\x45\xdf\xa3", "video/webm"),
        (b"BM", "image/bmp"),
    ];
    if let Some((_, kind)) = MAGIC.iter().find(|(magic, _)| first.starts_with(magic)) {
        return kind;
    }
    match (first.get(..4), first.get(4..8), first.get(8..12)) {
        (Some(b"RIFF"), _, Some(b"WEBP")) => return "image/webp",
        (Some(b"RIFF"), _, Some(b"WAVE")) => return "audio/wav",
        (Some(_), Some(b"ftyp"), _) => return "video/mp4",
        _ => {}
    }
    let text = first.get(..LOOK.min(first.len())).unwrap_or_default();
    let text = match std::str::from_utf8(text) {
        Ok(text) => text,
        // The look may end in the middle of a character.
        Err(error) if error.error_len().is_none() => {
            let whole = text.get(..error.valid_up_to()).unwrap_or_default();
            std::str::from_utf8(whole).unwrap_or_default()
        }
        Err(_) => return "application/octet-stream",
    };
    if text.contains('\0') {
        return "application/octet-stream";
    }
    let start = text.trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
    if start.starts_with("<!doctype html") || start.starts_with("<html") {
        return "text/html";
    }
    if start.starts_with("<svg") {
        return "image/svg+xml";
    }
    "text/plain"
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_says_what_it_is() {
        for (name, kind) in [
            ("a.html", "text/html; charset=utf-8"),
            ("a.HTML", "text/html; charset=utf-8"),
            ("x/app.mjs", "text/javascript; charset=utf-8"),
            ("a.css", "text/css; charset=utf-8"),
            ("a.json", "application/json; charset=utf-8"),
            ("a.svg", "image/svg+xml; charset=utf-8"),
            ("a.png", "image/png"),
            ("a.ts", "text/plain; charset=utf-8"),
            ("a.wasm", "application/wasm"),
            ("a.woff2", "font/woff2"),
        ] {
            assert_eq!(of(name, b"\0\0"), kind, "{name}");
        }
    }

    #[test]
    fn without_an_ending_the_first_bytes_say_it() {
        for (first, kind) in [
            (&b"<!DOCTYPE html><title>x"[..], "text/html; charset=utf-8"),
            (b"\n  <html>", "text/html; charset=utf-8"),
            (b"hello", "text/plain; charset=utf-8"),
            (b"<b>not a page</b>", "text/plain; charset=utf-8"),
            (b"", "text/plain; charset=utf-8"),
            (b"\x89PNG\r\n\x1a\nrest", "image/png"),
            (b"RIFF\0\0\0\0WEBPVP8", "image/webp"),
            (b"\0\0\0\x18ftypmp42", "video/mp4"),
            (b"a\0b", "application/octet-stream"),
            (b"\xff\xfe", "application/octet-stream"),
            ("é".as_bytes(), "text/plain; charset=utf-8"),
            (b"half a character \xc3", "text/plain; charset=utf-8"),
        ] {
            assert_eq!(of("page", first), kind, "{first:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(name in "\\PC*", first in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert!(of(&name, &first).contains('/'));
        }
    }
}
