//! What concerns callers: authentication, their rates and budgets, and whose word counts for their address.

use super::load::{DAY, SECOND};
use super::reader::{Problems, Reader};
use super::{Plugin, values};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// `auth = "…"` of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// Without a valid proof the answer is 401.
    Required,
    /// Without a valid proof the request goes on without a caller.
    Optional,
}

/// `[auth]`: who verifies callers, and how long an answer of the verifier holds.
#[derive(Clone, Debug)]
pub struct Auth {
    /// The plugin whose `guesthouse:auth/verifier` is asked.
    pub plugin: Option<String>,
    /// Cookies that are shown to it; a `*` at the end stands for anything.
    pub cookies: Vec<String>,
    /// How long a principal is kept at most. Default 5 min; 0 asks each time.
    pub cache_for: Duration,
    /// Bytes of principals that are kept. Default 16 MiB.
    pub cache_max_bytes: u64,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            plugin: None,
            cookies: ["__session", "__session_*", "__client_uat", "__client_uat_*"]
                .map(str::to_owned)
                .to_vec(),
            cache_for: Duration::from_secs(300),
            cache_max_bytes: 16 << 20,
        }
    }
}

/// So many in such a time: `20/min`, `200000/day`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// How many; at least 1.
    pub count: u64,
    /// In which time; at least a second.
    pub per: Duration,
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}s", self.count, self.per.as_secs())
    }
}

/// A network: `10.0.0.0/8`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads `address` or `address/prefix`.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is not a network: write \"127.0.0.1\", \"10.0.0.0/8\" or \"::1\"");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(longest);
        if prefix > longest {
            return Err(wrong());
        }
        Ok(Self { address, prefix })
    }

    /// Whether the address is in it. An IPv4 address that is written as IPv6 is an IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let differ = match (self.address, address.to_canonical()) {
            (IpAddr::V4(mine), IpAddr::V4(other)) => {
                u128::from(mine.to_bits() ^ other.to_bits()) << 96
            }
            (IpAddr::V6(mine), IpAddr::V6(other)) => mine.to_bits() ^ other.to_bits(),
            _ => return false,
        };
        self.prefix == 0 || differ.leading_zeros() >= u32::from(self.prefix)
    }
}

/// Reads `[auth]`.
pub(super) fn auth(mut reader: Reader<'_>, auth: &mut Auth) {
    if let Some((name, _)) = reader.text("plugin") {
        auth.plugin = Some(name.to_owned());
    }
    if reader.get("cookies").is_some() {
        auth.cookies =
            reader.texts("cookies").into_iter().map(|(name, _)| name.to_owned()).collect();
    }
    reader.duration("cache_for", &mut auth.cache_for, Duration::ZERO..=DAY);
    reader.size("cache_max_bytes", &mut auth.cache_max_bytes, 1 << 16..=1 << 34);
    reader.finish();
}

/// Reads `trusted_proxies`.
pub(super) fn proxies(reader: &mut Reader<'_>, into: &mut Vec<Network>) {
    for (text, span) in reader.texts("trusted_proxies") {
        match Network::parse(text) {
            Ok(network) => into.push(network),
            Err(why) => reader.problem(span, format!("`trusted_proxies` in [server]: {why}.")),
        }
    }
}

/// Reads `auth`, `preflight`, `rate` and `budget_tokens` of a plugin; the place of `auth`, for [`check`].
pub(super) fn of_plugin(reader: &mut Reader<'_>, plugin: &mut Plugin) -> Option<Range<usize>> {
    let place = reader.text("auth").map(|(_, span)| span);
    let words = [("required", Some(AuthMode::Required)), ("optional", Some(AuthMode::Optional))];
    reader.word("auth", &mut plugin.auth, &words);
    let preflight = reader.get("preflight").map(|value| value.span());
    reader.truth("preflight", &mut plugin.preflight);
    if let Some(span) = preflight
        && plugin.preflight
        && plugin.auth != Some(AuthMode::Required)
    {
        reader.problem(
            span,
            "`preflight` is for a plugin with `auth = \"required\"`: any other gets a browser's preflight as it \
             is. Remove the line."
                .to_owned(),
        );
    }
    for (key, into) in [("rate", &mut plugin.rate), ("budget_tokens", &mut plugin.budget)] {
        let Some((text, span)) = reader.text(key) else { continue };
        match values::quota(text) {
            Ok(quota) if (SECOND..=31 * DAY).contains(&quota.per) => *into = Some(quota),
            Ok(_) => reader.problem(span, format!("`{key}`: the time must be 1 s to 31 days.")),
            Err(why) => reader.problem(span, format!("`{key}`: {why}.")),
        }
    }
    place
}

/// What the host tells the auth plugin in development, and nobody else may.
pub const DEV_SETTINGS: [&str; 2] = ["dev_public_key", "dev_issuer"];

/// What can only be seen once all tables are read.
pub(super) fn check(
    auth: &Auth,
    plugins: &BTreeMap<String, Arc<Plugin>>,
    asked: &[(String, Range<usize>)],
    problems: &Problems,
) {
    match &auth.plugin {
        None => {
            for (name, span) in asked {
                problems.add(
                    span.clone(),
                    format!(
                        "[plugins.{name}] asks for authentication, and nobody is there to give it: name \
                         the plugin that verifies callers with `[auth] plugin = \"auth\"`."
                    ),
                );
            }
        }
        Some(name) => match plugins.get(name) {
            None => problems.add(
                None,
                format!("[auth] names the plugin `{name}`, and there is no [plugins.{name}]."),
            ),
            Some(plugin) => {
                for key in DEV_SETTINGS.iter().filter(|key| plugin.config.contains_key(**key)) {
                    problems.add(
                        None,
                        format!(
                            "`{key}` in [plugins.{name}.config] is set by the house itself, in \
                             development and never with --env prod: remove the line."
                        ),
                    );
                }
            }
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_what_shares_its_prefix() {
        let inside = |network: &str, address: &str| {
            Network::parse(network).unwrap().contains(address.parse().unwrap())
        };
        assert!(inside("10.0.0.0/8", "10.255.0.1"));
        assert!(!inside("10.0.0.0/8", "11.0.0.1"));
        assert!(inside("127.0.0.1", "::ffff:127.0.0.1"));
        assert!(inside("0.0.0.0/0", "8.8.8.8"));
        assert!(!inside("0.0.0.0/0", "::1"));
        assert!(inside("2001:db8::/32", "2001:db8:1::5"));
        assert!(!inside("::1", "::2"));
        for wrong in ["", "10.0.0.0/33", "host", "::1/129", "10.0.0/8", "1.2.3.4/-1"] {
            assert!(Network::parse(wrong).is_err(), "{wrong}");
        }
    }
}
