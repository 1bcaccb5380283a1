//! `fetch = […]` of a plugin, and `[fetch]` of the house: who may go where.
//!
//! Owns the keys and their meaning; `capabilities::fetch` enforces it. A destination is granted by its
//! scheme, host, port and path; private addresses need `allow_private`, or a host that can only be private.

mod host;
mod pattern;

pub use host::Host;
pub use pattern::{Target, UrlPattern};

use super::reader::{Problems, Reader, Value, a_type};
use super::variables;
use http::{HeaderName, HeaderValue};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// Header fields that make the message itself, which nobody may set beside it.
const FRAMING: [&str; 9] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
    "expect",
];

/// One destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchGrant {
    /// Where to.
    pub url: UrlPattern,
    /// Whether private addresses, and the house's own, may be behind it.
    pub allow_private: bool,
    /// Header fields that the host adds.
    pub inject: Vec<Inject>,
}

impl FetchGrant {
    /// Whether a private address is what the operator meant.
    #[must_use]
    pub fn may_be_private(&self) -> bool {
        self.allow_private || (!self.url.wildcard && self.url.host.is_private_by_name())
    }

    /// The secrets that are sent along.
    pub fn secrets(&self) -> impl Iterator<Item = &String> {
        self.inject.iter().flat_map(|field| &field.pieces).filter_map(|piece| match piece {
            Piece::Secret(name) => Some(name),
            Piece::Text(_) => None,
        })
    }
}

/// A header field with secrets in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inject {
    /// The field.
    pub name: HeaderName,
    /// Its value, in pieces.
    pub pieces: Vec<Piece>,
}

/// A piece of a header field's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// The text of the secret of this name.
    Secret(String),
}

/// `[fetch]`: what all outbound requests share.
#[derive(Clone, Debug, Default)]
pub struct Fetch {
    /// Certificates that TLS trusts; default: the system's.
    pub roots: Option<PathBuf>,
    /// Addresses of names, in place of DNS. They are checked as DNS answers are.
    pub hosts: BTreeMap<String, Vec<IpAddr>>,
}

/// Reads `[fetch]`.
pub(super) fn house(mut reader: Reader<'_>, file: &Path, problems: &Problems) -> Fetch {
    let mut fetch = Fetch::default();
    if let Some((text, span)) = reader.text("roots") {
        let path = file.parent().unwrap_or(Path::new("/")).join(text);
        if !path.is_file() {
            problems.add(span, format!("there is no file {} with certificates.", path.display()));
        }
        fetch.roots = Some(path);
    }
    if let Some(hosts) = reader.table("hosts", "[fetch.hosts]") {
        for (name, span, value) in hosts.any() {
            let addresses = addresses(value);
            match (Host::parse(name), addresses) {
                (Ok(Host::Name(name)), Some(addresses)) => {
                    fetch.hosts.insert(name, addresses);
                }
                (Ok(Host::Name(_)), None) => problems.add(
                    value.span(),
                    format!("`{name}` in [fetch.hosts] must be a list of IP addresses, as [\"10.0.0.7\"]."),
                ),
                _ => problems.add(span, format!("`{name}` in [fetch.hosts] is not a name.")),
            }
        }
    }
    reader.finish();
    fetch
}

fn addresses(value: Value<'_>) -> Option<Vec<IpAddr>> {
    let items = value.get_ref().as_array()?;
    let addresses: Option<Vec<IpAddr>> =
        items.iter().map(|item| item.get_ref().as_str()?.parse().ok()).collect();
    addresses.filter(|addresses| !addresses.is_empty())
}

/// Reads `fetch` of `[plugins.NAME]`.
pub(super) fn grants(reader: &mut Reader<'_>, name: &str, problems: &Problems) -> Vec<FetchGrant> {
    let Some(value) = reader.get("fetch") else { return Vec::new() };
    let Some(items) = value.get_ref().as_array() else {
        problems.add(
            value.span(),
            format!(
                "`fetch` in [plugins.{name}] must be a list, as [\"https://api.example.com\"], not {}.",
                a_type(value.get_ref())
            ),
        );
        return Vec::new();
    };
    let mut grants = Vec::new();
    for item in items.iter() {
        let grant = if let Some(text) = item.get_ref().as_str() {
            destination(text)
                .map(|url| FetchGrant { url, allow_private: false, inject: Vec::new() })
                .map_err(|why| problems.add(item.span(), format!("{why}.")))
                .ok()
        } else if let Some(table) = item.get_ref().as_table() {
            table_grant(table, item, name, problems)
        } else {
            problems.add(
                item.span(),
                "a destination is a text, or a table as { url = \"https://api.example.com\" }.",
            );
            None
        };
        grants.extend(grant);
    }
    // The narrowest first: it decides.
    grants.sort_by_key(|grant: &FetchGrant| std::cmp::Reverse(grant.url.rank()));
    grants
}

/// Environment variables have been put in; a base URL may end with or without a slash.
fn destination(text: &str) -> Result<UrlPattern, String> {
    UrlPattern::parse(&variables::expand(text)?)
}

fn table_grant(
    table: &DeTable<'_>,
    item: Value<'_>,
    name: &str,
    problems: &Problems,
) -> Option<FetchGrant> {
    let mut reader = Reader::new(table, format!("`fetch` of [plugins.{name}]"), problems);
    let url = match reader.text("url") {
        Some((text, span)) => {
            destination(text).map_err(|why| problems.add(span, format!("{why}."))).ok()
        }
        None => {
            problems.add(item.span(), "a destination needs `url = \"https://…\"`.");
            None
        }
    };
    let mut allow_private = false;
    reader.truth("allow_private", &mut allow_private);
    let mut inject = Vec::new();
    if let Some(fields) = reader.table("inject", &format!("`inject` of [plugins.{name}]")) {
        for (field, span, value) in fields.any() {
            let Some(text) = value.get_ref().as_str() else {
                problems.add(value.span(), "a header field's value must be a text.");
                continue;
            };
            match header_name(field).and_then(|name| Ok(Inject { name, pieces: template(text)? })) {
                Ok(field) => inject.push(field),
                Err(why) => problems.add(span, format!("{why}.")),
            }
        }
    }
    reader.finish();
    let grant = FetchGrant { url: url?, allow_private, inject };
    if !grant.url.tls && !grant.inject.is_empty() && !grant.may_be_private() {
        problems.add(
            item.span(),
            "`inject` would send a secret in the clear to a public host: use https, or `allow_private = \
             true` for a host of a private network.",
        );
    }
    Some(grant)
}

fn header_name(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| format!("`{text}` is not the name of a header field"))?;
    if FRAMING.contains(&name.as_str()) {
        return Err(format!("`{name}` is the host's own: it can't be injected"));
    }
    Ok(name)
}

/// `Bearer ${NAME}` in pieces.
fn template(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) =
            after.split_once('}').ok_or_else(|| format!("`{text}` has `${{` without `}}`"))?;
        if !variables::is_name(name) {
            return Err(format!(
                "`{name}` is not a name for a secret: write it as an environment variable"
            ));
        }
        pieces.push(Piece::Text(before.to_owned()));
        pieces.push(Piece::Secret(name.to_owned()));
        rest = after;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
    let plain = |piece: &Piece| match piece {
        Piece::Text(text) => HeaderValue::from_str(text).is_ok(),
        Piece::Secret(_) => true,
    };
    if !pieces.iter().all(plain) {
        return Err("the value has characters that a header field can't carry".to_owned());
    }
    Ok(pieces)
}
