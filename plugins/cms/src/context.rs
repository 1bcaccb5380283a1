//! What a request is answered with: settings, storage, and who calls.

use crate::place::{Place, Space, id_of};
use crate::policy::Caller;
use crate::store::{Account, Failure, Key, Quota, Store};
use guesthouse_sdk::config;

/// The settings of the plugin.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `namespace`, where everything is kept.
    pub namespace: String,
    /// `live_writers`, who may write in the shared space.
    pub live_writers: String,
    /// `max_file`, in bytes.
    pub max_file: u64,
    /// `history`, in versions.
    pub history: usize,
    /// `quota_bytes` and `quota_files` of one caller.
    pub quota: Quota,
    /// `cors`, the origins that may read what is public.
    pub cors: String,
    /// `max_age`, in seconds.
    pub max_age: u64,
    /// `content_host`, where documents are shown as themselves.
    pub content_host: Option<ContentHost>,
    /// `embedder_policy`
    pub embedder_policy: String,
    /// `strict_folders`: a document needs its folder, as WebDAV has it.
    pub strict_folders: bool,
}

/// A host of its own for documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentHost {
    /// `https://usercontent.example.com`
    pub origin: String,
    /// `usercontent.example.com`
    pub authority: String,
}

impl ContentHost {
    fn read(text: &str) -> Option<Self> {
        let origin = text.trim_end_matches('/').to_owned();
        let (scheme, authority) = origin.split_once("://")?;
        let plain = matches!(scheme, "http" | "https") && !authority.contains(['/', '@', '?', '#']);
        let authority = authority.to_owned();
        (plain && !authority.is_empty()).then_some(Self { origin, authority })
    }
}

impl Settings {
    /// What the operator says, else what is safe.
    ///
    /// # Errors
    /// A setting is no use; for the log.
    pub fn read() -> Result<Self, String> {
        Self::from(&config::get)
    }

    fn from(get: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let number = |name: &str, default: u64| match get(name) {
            None => Ok(default),
            Some(text) => text
                .trim()
                .parse::<u64>()
                .map_err(|_| format!("the setting `{name}` must be a whole number, not `{text}`")),
        };
        let text = |name: &str, default: &str| get(name).unwrap_or_else(|| default.to_owned());
        let content_host = match get("content_host").filter(|text| !text.trim().is_empty()) {
            None => None,
            Some(text) => Some(ContentHost::read(text.trim()).ok_or_else(|| {
                format!(
                    "the setting `content_host` must be an origin as https://usercontent.example.com, not \
                     `{text}`"
                )
            })?),
        };
        Ok(Self {
            namespace: text("namespace", "default"),
            live_writers: text("live_writers", ""),
            max_file: number("max_file", 25 << 20)?,
            history: usize::try_from(number("history", 20)?.clamp(1, 100)).unwrap_or(20),
            quota: Quota {
                bytes: number("quota_bytes", 256 << 20)?,
                files: number("quota_files", 10_000)?,
            },
            cors: text("cors", "*"),
            max_age: number("max_age", 3600)?,
            content_host,
            embedder_policy: text("embedder_policy", "credentialless"),
            strict_folders: text("strict_folders", "") == "true",
        })
    }
}

/// A document that is meant.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its key.
    pub key: Key,
    /// Its name within the space.
    pub name: String,
    /// The part of its space's keys.
    pub space: String,
    /// Whether everything in its space is public.
    pub public: bool,
}

/// The part of a space's keys: `live`, or the id of the caller whose space it is.
#[must_use]
pub fn space_key(space: &Space, caller: Option<&Caller>) -> Option<String> {
    match space {
        Space::Live => Some("live".to_owned()),
        Space::Mine => caller.map(Caller::id),
        Space::Of(name) => Some(id_of(name)),
    }
}

impl Target {
    /// The document of this name in the place's space; none: nobody calls, and the space is the caller's.
    #[must_use]
    pub fn of(place: &Place, name: &str, caller: Option<&Caller>) -> Option<Self> {
        let space = space_key(&place.space, caller)?;
        Some(Self {
            key: Key::of(&space, name),
            name: name.to_owned(),
            space,
            public: place.space == Space::Live,
        })
    }
}

/// What a change is made with.
pub struct Context<'a> {
    /// The settings.
    pub settings: &'a Settings,
    /// The storage.
    pub store: &'a Store,
    /// Who writes.
    pub who: Account,
    /// Under which the writer's things are kept.
    pub id: String,
    /// Milliseconds since 1970.
    pub now: u64,
}

impl<'a> Context<'a> {
    /// For this caller.
    #[must_use]
    pub fn new(settings: &'a Settings, store: &'a Store, caller: &Caller) -> Self {
        let who = Account {
            who: caller.subject.clone(),
            issuer: caller.issuer.clone(),
            ..Account::default()
        };
        Self { settings, store, who, id: caller.id(), now: guesthouse_sdk::now_ms() }
    }

    /// Whether there may be room for so many bytes, before they are read.
    ///
    /// # Errors
    /// There is none even if all that can be forgotten is forgotten.
    pub fn check_room(&self, is_new: bool, bytes: u64) -> Result<(), Failure> {
        let quota = self.settings.quota;
        if bytes > quota.bytes {
            return Err(Failure::Full("bytes"));
        }
        if is_new && quota.files == 0 {
            return Err(Failure::Full("files"));
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_safe_by_default_and_wrong_ones_are_named() {
        let settings = Settings::from(&|_| None).unwrap();
        assert_eq!((settings.live_writers.as_str(), settings.history), ("", 20));
        assert_eq!(settings.max_file, 26_214_400);
        let with = |name: &'static str, value: &'static str| {
            Settings::from(&move |key| (key == name).then(|| value.to_owned()))
        };
        assert!(with("max_file", "25MiB").unwrap_err().contains("max_file"));
        for wrong in
            ["usercontent.example.com", "ftp://x", "https://", "https://a/b", "https://u@a"]
        {
            assert!(with("content_host", wrong).unwrap_err().contains("content_host"), "{wrong}");
        }
        let host = with("content_host", "https://u.example.com:8443/").unwrap().content_host;
        assert_eq!(host.unwrap().authority, "u.example.com:8443");
    }
}
