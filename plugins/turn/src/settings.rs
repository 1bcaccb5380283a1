//! What the operator has set.
//!
//! | setting | meaning |
//! |---|---|
//! | `provider` | `house` (the default), `coturn` or `cloudflare` |
//! | `ttl` | how long a credential is good: `1h` to `24h`, by itself `12h` |
//! | `urls` | addresses of the relay, with spaces between; the house's own relay is known without |
//! | `secret` | the name of the secret that is shared with the relay, by itself `TURN_SECRET` |
//! | `origins` | pages of other origins that may ask, with spaces between; `*` is any |
//! | `key_id` | Cloudflare: the name of the secret with the key's id, by itself `CLOUDFLARE_TURN_KEY_ID` |
//! | `base_url` | Cloudflare: where its API is |

use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
const MOST: Duration = Duration::from_secs(24 * 3600);

/// What the operator has set, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whose relay.
    pub provider: Provider,
    /// How long a credential is good.
    pub ttl: Duration,
    origins: Vec<String>,
}

/// Whose relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// One with which a secret is shared: the house's own, or coturn.
    Secret {
        /// Where it is.
        urls: Vec<String>,
        /// The name of the secret.
        secret: String,
    },
    /// Cloudflare's.
    Cloudflare {
        /// Where its API is.
        base: String,
        /// The name of the secret with the key's id.
        key: String,
    },
}

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// What is wrong, as a sentence without its full stop.
    pub fn read(get: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let get_or = |key: &str, default: &str| {
            get(key).filter(|text| !text.trim().is_empty()).unwrap_or_else(|| default.to_owned())
        };
        let words =
            |key: &str| get_or(key, "").split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let mut urls = words("urls");
        let secret = get_or("secret", "TURN_SECRET");
        let provider = match get_or("provider", "house").as_str() {
            "house" => {
                if urls.is_empty() {
                    urls = words("relay_urls");
                }
                if urls.is_empty() {
                    return Err(
                        "this house has no relay: write [turn] into its configuration, or \
                                set `provider` to coturn or cloudflare"
                            .to_owned(),
                    );
                }
                Provider::Secret { urls, secret }
            }
            "coturn" if urls.is_empty() => {
                return Err("`urls` is not set: write where coturn is, as \
                            \"turn:turn.example.com:3478?transport=udp\""
                    .to_owned());
            }
            "coturn" => Provider::Secret { urls, secret },
            "cloudflare" => Provider::Cloudflare {
                base: get_or("base_url", "https://rtc.live.cloudflare.com"),
                key: get_or("key_id", "CLOUDFLARE_TURN_KEY_ID"),
            },
            other => {
                return Err(format!(
                    "`provider` is \"{other}\": it must be house, coturn or cloudflare"
                ));
            }
        };
        if let Provider::Secret { urls, .. } = &provider
            && let Some(url) = urls.iter().find(|url| !is_ice_url(url))
        {
            return Err(format!(
                "`{url}` in `urls` is not an address of a relay: write \
                 \"turn:turn.example.com:3478?transport=udp\" or \"turns:turn.example.com:5349?transport=tcp\""
            ));
        }
        Ok(Self { provider, ttl: ttl(&get_or("ttl", "12h"))?, origins: words("origins") })
    }

    /// Fields that let a page of another origin read the answer.
    #[must_use]
    pub fn cors(&self, origin: Option<&str>) -> Vec<(String, String)> {
        if self.origins.is_empty() {
            return Vec::new();
        }
        let mut fields = vec![("vary".to_owned(), "Origin".to_owned())];
        if let Some(origin) = origin {
            if self.origins.iter().any(|known| known == origin) {
                fields.push(("access-control-allow-origin".to_owned(), origin.to_owned()));
                // A named page may show the caller's cookie; any page may not.
                fields.push(("access-control-allow-credentials".to_owned(), "true".to_owned()));
            } else if self.origins.iter().any(|known| known == "*") {
                fields.push(("access-control-allow-origin".to_owned(), "*".to_owned()));
            }
        }
        fields
    }
}

fn is_ice_url(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once(':') else { return false };
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    let turn = matches!(scheme, "turn" | "turns");
    (turn || matches!(scheme, "stun" | "stuns"))
        && !address.is_empty()
        && !address.starts_with('/')
        && (query.is_empty() || turn && matches!(query, "transport=udp" | "transport=tcp"))
}

fn ttl(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`ttl` is \"{text}\": it must be from 1h to 24h, as \"12h\" or \"90m\"");
    let text_of = text.trim();
    let (number, unit) =
        text_of.split_at(text_of.find(|c: char| !c.is_ascii_digit()).unwrap_or(text_of.len()));
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    let ttl = Duration::from_secs(number.checked_mul(seconds).ok_or_else(wrong)?);
    if (HOUR..=MOST).contains(&ttl) { Ok(ttl) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::read(&|key| {
            pairs.iter().find(|(known, _)| *known == key).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_house_says_where_its_relay_is_and_the_operator_may_say_otherwise() {
        let house = ("relay_urls", "turn:127.0.0.1:3478?transport=udp");
        let Ok(Settings { provider: Provider::Secret { urls, secret }, ttl, .. }) = read(&[house])
        else {
            panic!()
        };
        assert_eq!((urls.len(), secret.as_str(), ttl), (1, "TURN_SECRET", 12 * HOUR));
        let named = read(&[house, ("urls", "turn:a:1  turns:b:2?transport=tcp")]).unwrap();
        let Provider::Secret { urls, .. } = named.provider else { panic!() };
        assert_eq!(urls, ["turn:a:1", "turns:b:2?transport=tcp"]);
        assert!(read(&[]).unwrap_err().contains("[turn]"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(read(&[("provider", "coturn")]).unwrap_err().contains("`urls`"));
        assert!(read(&[("provider", "twilio")]).unwrap_err().contains("cloudflare"));
        for url in
            ["http://a", "turn:", "turn://a", "turn:a?transport=sctp", "stun:a?transport=udp"]
        {
            let wrong = read(&[("provider", "coturn"), ("urls", url)]).unwrap_err();
            assert!(wrong.contains(url), "{wrong}");
        }
    }

    #[test]
    fn a_credential_lives_for_an_hour_to_a_day() {
        let ttl = |text| read(&[("relay_urls", "turn:a:1"), ("ttl", text)]).map(|s| s.ttl);
        assert_eq!(ttl("1h"), Ok(HOUR));
        assert_eq!(ttl("24h"), Ok(MOST));
        assert_eq!(ttl("90m"), Ok(HOUR * 3 / 2));
        for wrong in ["59m", "25h", "86401s", "1", "h", "-1h", "99999999999999999999h", "1d"] {
            assert!(ttl(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn other_origins_are_let_in_by_name() {
        let with = |origins| read(&[("relay_urls", "turn:a:1"), ("origins", origins)]).unwrap();
        let names = |settings: &Settings, origin| {
            let fields = settings.cors(Some(origin));
            let get = |name: &str| {
                let found = fields.iter().find(|(known, _)| known == name);
                found.map(|(_, value)| value.clone())
            };
            (get("access-control-allow-origin"), get("access-control-allow-credentials"))
        };
        let named = with("https://app.example.com https://b.example.com");
        let yes = "https://app.example.com".to_owned();
        assert_eq!(names(&named, &yes), (Some(yes.clone()), Some("true".into())));
        assert_eq!(names(&named, "https://evil.example.com"), (None, None));
        assert_eq!(names(&with("*"), "https://evil.example.com"), (Some("*".into()), None));
        assert!(with("").cors(Some(&yes)).is_empty());
    }
}
