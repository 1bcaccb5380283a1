//! The operator's policy, and the whole way from a proof to a caller.
//!
//! Owns the settings and the order of the checks: form, header, claims, key, signature. The key of the house's
//! development issuer is used for tokens of that issuer and for nothing else.

use crate::keys::{Alg, Key};
use crate::proof::{ClerkInstance, Places};
use crate::rules::{self, Reason, Rules};
use crate::token::Token;
use serde_json::{Map, Value};

/// Why a caller is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum No {
    /// The token is not valid.
    Invalid(Reason),
    /// Nobody can say at the moment.
    Unavailable(Reason),
}

/// A token that is believed.
#[derive(Debug)]
pub struct Verified {
    /// All claims.
    pub claims: Map<String, Value>,
    /// The same as they were signed.
    pub text: String,
}

impl Verified {
    /// A claim that is a text.
    #[must_use]
    pub fn text_claim(&self, name: &str) -> Option<String> {
        self.claims.get(name).and_then(Value::as_str).map(str::to_owned)
    }
}

/// Where the keys are.
#[derive(Clone)]
pub enum Keys {
    /// One key in the configuration.
    Fixed(Box<Key>),
    /// What this URL gives.
    Published(String),
    /// Nowhere: only the development issuer is known.
    None,
}

/// The house's own issuer.
#[derive(Clone)]
pub struct Dev {
    issuer: String,
    key: Key,
}

/// Everything that the operator set.
#[derive(Clone)]
pub struct Policy {
    /// Where tokens are found.
    pub places: Places,
    /// What they must say.
    pub rules: Rules,
    /// Who must have signed them.
    pub keys: Keys,
    /// How long keys are used, kept, and not asked for.
    pub times: crate::keyring::Times,
    dev: Option<Dev>,
}

/// The settings that there are, for the message about one that is none.
const KNOWN: [&str; 14] = [
    "jwt_key",
    "jwt_key_id",
    "jwks_uri",
    "algorithms",
    "authorized_parties",
    "azp_may_be_absent",
    "audience",
    "issuer",
    "clock_skew",
    "publishable_key",
    "cookie",
    "keys_grace",
    "dev_public_key",
    "dev_issuer",
];

impl Policy {
    /// Reads the settings.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub fn new(settings: &[(String, String)]) -> Result<Self, String> {
        if let Some((name, _)) = settings.iter().find(|(name, _)| !KNOWN.contains(&name.as_str())) {
            return Err(format!("there is no setting `{name}`; there are {}", KNOWN.join(", ")));
        }
        let get = |name: &str| {
            settings
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.trim())
                .filter(|value| !value.is_empty())
        };
        let list = |name: &str| -> Vec<String> {
            let words = get(name).unwrap_or_default().split([',', ' ', '\n']);
            words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        let seconds = |name: &str, default: u64| match get(name) {
            None => Ok(default),
            Some(text) => text
                .parse::<u64>()
                .map_err(|_| format!("`{name}` must be a whole number of seconds, not `{text}`")),
        };
        let mut algorithms = Vec::new();
        for name in list("algorithms") {
            algorithms.push(Alg::named(&name).ok_or_else(|| {
                format!(
                    "`algorithms` has `{name}`, which is none of RS256, RS384, RS512, PS256, PS384, PS512, \
                     ES256, ES384, EdDSA"
                )
            })?);
        }
        if algorithms.is_empty() {
            algorithms.extend(Alg::named("RS256"));
        }
        let keys = match (get("jwt_key"), get("jwks_uri")) {
            (Some(_), Some(_)) => {
                return Err("set `jwt_key` or `jwks_uri`, not both".to_owned());
            }
            (Some(pem), None) => {
                let key = Key::from_pem(pem, get("jwt_key_id").map(str::to_owned))
                    .map_err(|why| format!("`jwt_key`: {why}"))?;
                Keys::Fixed(Box::new(key))
            }
            (None, Some(uri)) if uri.starts_with("https://") || uri.starts_with("http://") => {
                Keys::Published(uri.to_owned())
            }
            (None, Some(uri)) => return Err(format!("`jwks_uri` is no http(s) URL: `{uri}`")),
            (None, None) => Keys::None,
        };
        let dev = match (get("dev_public_key"), get("dev_issuer")) {
            (Some(pem), Some(issuer)) => Some(Dev {
                issuer: issuer.to_owned(),
                key: Key::from_pem(pem, Some(issuer.to_owned()))
                    .map_err(|why| format!("`dev_public_key`: {why}"))?,
            }),
            _ => None,
        };
        Ok(Self {
            places: Places {
                cookie: get("cookie").unwrap_or("__session").to_owned(),
                clerk: get("publishable_key").map(ClerkInstance::new).transpose()?,
            },
            rules: Rules {
                algorithms,
                authorized_parties: list("authorized_parties"),
                azp_may_be_absent: match get("azp_may_be_absent") {
                    None | Some("false") => false,
                    Some("true") => true,
                    Some(other) => {
                        return Err(format!(
                            "`azp_may_be_absent` is \"true\" or \"false\", not `{other}`"
                        ));
                    }
                },
                audience: list("audience"),
                issuers: list("issuer"),
                skew: seconds("clock_skew", 5)?,
            },
            keys,
            times: crate::keyring::Times {
                fresh: 300_000,
                grace: seconds("keys_grace", 3600)?.max(300).saturating_mul(1000),
                floor: 30_000,
            },
            dev,
        })
    }

    /// Verifies a token. `find` looks up a published key by its name.
    ///
    /// # Errors
    /// The reason.
    pub fn verify(
        &self,
        text: &str,
        now_ms: u64,
        find: &mut dyn FnMut(&str, &str) -> Result<Key, No>,
    ) -> Result<Verified, No> {
        let token = Token::parse(text).map_err(|why| No::Invalid(rules::malformed(why)))?;
        let kid = rules::kid(&token.header);
        if let Some(dev) = &self.dev
            && kid == Some(dev.issuer.as_str())
        {
            return dev.verify(token, self.rules.skew, now_ms);
        }
        let alg = rules::header(&token.header, &self.rules.algorithms).map_err(No::Invalid)?;
        rules::claims(&token, &self.rules, now_ms).map_err(No::Invalid)?;
        let key = match &self.keys {
            Keys::Fixed(key) => match (&key.kid, kid) {
                (Some(mine), Some(its)) if mine != its => {
                    return Err(No::Invalid("jwk-kid-mismatch"));
                }
                _ => key.as_ref().clone(),
            },
            Keys::Published(uri) => find(uri, kid.ok_or(No::Invalid("jwk-kid-mismatch"))?)?,
            Keys::None => return Err(No::Invalid("jwk-kid-mismatch")),
        };
        signed(&key, alg, token)
    }
}

impl Dev {
    fn verify(&self, token: Token<'_>, skew: u64, now_ms: u64) -> Result<Verified, No> {
        let algorithms: Vec<Alg> = Alg::named("EdDSA").into_iter().collect();
        let alg = rules::header(&token.header, &algorithms).map_err(No::Invalid)?;
        let rules = Rules {
            algorithms,
            authorized_parties: Vec::new(),
            azp_may_be_absent: true,
            audience: Vec::new(),
            issuers: vec![self.issuer.clone()],
            skew,
        };
        rules::claims(&token, &rules, now_ms).map_err(No::Invalid)?;
        signed(&self.key, alg, token)
    }
}

fn signed(key: &Key, alg: Alg, token: Token<'_>) -> Result<Verified, No> {
    if key.verifies(alg, token.message, token.signature) {
        Ok(Verified { claims: token.claims, text: token.claims_text })
    } else {
        Err(No::Invalid("token-invalid-signature"))
    }
}
