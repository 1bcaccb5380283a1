//! Usernames of the TURN REST scheme, as strangers send them.
#![no_main]

/// The one type of the house that the file needs.
mod config {
    pub mod secrets {
        pub struct SecretText(pub String);

        impl SecretText {
            pub fn reveal(&self) -> &str {
                &self.0
            }
        }
    }
}

#[path = "../../host/src/turn/credentials.rs"]
mod credentials;

use credentials::RestCredentials;
use std::sync::OnceLock;
use webrtc_turn::auth::AuthHandler;

libfuzzer_sys::fuzz_target!(|username: &str| {
    static KNOWN: OnceLock<RestCredentials> = OnceLock::new();
    let secrets = || ["new", "old"].map(|text| config::secrets::SecretText(text.to_owned()));
    let known = KNOWN.get_or_init(|| RestCredentials::new(secrets().into()));
    let from = "192.0.2.7:1000".parse().expect("an address");
    if let Ok(found) = known.auth_handle(username, "realm", from) {
        let (expiry, user) = username.split_once(':').expect("a colon");
        assert!(expiry.parse::<u64>().is_ok_and(|expiry| expiry > 1_700_000_000));
        assert!(found.user == user && !user.is_empty() && found.keys.len() == 2);
    }
});
