//! The answer in its two shapes.

use crate::credential::Credential;
use serde_json::{Value, json};

/// One element of `iceServers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceServer {
    /// Addresses, the best first.
    pub urls: Vec<String>,
    /// What they ask for; STUN asks for nothing.
    pub credential: Option<Credential>,
}

/// How `iceServers` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// As `RTCPeerConnection` takes it.
    List,
    /// One object with all addresses: for clients that write `[data.iceServers]`.
    Object,
}

impl Shape {
    /// What the query asks for.
    #[must_use]
    pub fn of(query: &str) -> Self {
        let object = query.split('&').any(|pair| pair == "shape=object");
        if object { Self::Object } else { Self::List }
    }
}

/// The servers that these addresses stand for: STUN needs no credential, and comes first.
#[must_use]
pub fn ice_servers(urls: &[String], credential: &Credential) -> Vec<IceServer> {
    let is_stun = |url: &&String| url.starts_with("stun:") || url.starts_with("stuns:");
    let mut stun: Vec<String> = urls.iter().filter(is_stun).cloned().collect();
    if stun.is_empty() {
        // A relay answers STUN where it answers TURN.
        let udp = |url: &String| {
            let address = url.strip_prefix("turn:")?;
            let (address, transport) = address.split_once('?').unwrap_or((address, ""));
            (transport != "transport=tcp").then(|| format!("stun:{address}"))
        };
        stun.extend(urls.iter().find_map(udp));
    }
    let turn: Vec<String> = urls.iter().filter(|url| !is_stun(url)).cloned().collect();
    let stun = IceServer { urls: stun, credential: None };
    let turn = IceServer { urls: turn, credential: Some(credential.clone()) };
    [stun, turn].into_iter().filter(|server| !server.urls.is_empty()).collect()
}

/// The answer.
#[must_use]
pub fn answer(servers: &[IceServer], shape: Shape) -> Value {
    let write = |server: &IceServer| {
        let mut value = json!({ "urls": server.urls });
        if let (Some(credential), Some(object)) = (&server.credential, value.as_object_mut()) {
            object.insert("username".into(), credential.username.as_str().into());
            object.insert("credential".into(), credential.credential.as_str().into());
        }
        value
    };
    match shape {
        Shape::List => json!({ "iceServers": servers.iter().map(write).collect::<Vec<_>>() }),
        Shape::Object => {
            let all = IceServer {
                urls: servers.iter().flat_map(|server| server.urls.clone()).collect(),
                credential: servers.iter().find_map(|server| server.credential.clone()),
            };
            json!({ "iceServers": write(&all) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers() -> Vec<IceServer> {
        let urls = [
            "turn:203.0.113.5:3478?transport=udp",
            "turn:203.0.113.5:3478?transport=tcp",
            "turns:turn.example.com:5349?transport=tcp",
        ];
        let credential = Credential { username: "1:u".into(), credential: "c".into() };
        ice_servers(&urls.map(str::to_owned), &credential)
    }

    #[test]
    fn a_list_is_what_a_browser_takes() {
        assert_eq!(
            answer(&servers(), Shape::of("a=b")),
            json!({"iceServers": [
                {"urls": ["stun:203.0.113.5:3478"]},
                {"urls": ["turn:203.0.113.5:3478?transport=udp", "turn:203.0.113.5:3478?transport=tcp",
                          "turns:turn.example.com:5349?transport=tcp"],
                 "username": "1:u", "credential": "c"},
            ]})
        );
    }

    #[test]
    fn an_object_has_all_addresses() {
        let value = answer(&servers(), Shape::of("x=1&shape=object"));
        assert_eq!(value["iceServers"]["urls"].as_array().unwrap().len(), 4);
        assert_eq!(value["iceServers"]["username"], "1:u");
        assert_eq!(value["iceServers"]["credential"], "c");
    }

    #[test]
    fn stun_is_named_only_where_it_is() {
        let credential = Credential { username: "1:u".into(), credential: "c".into() };
        let tcp = ice_servers(&["turn:a:1?transport=tcp".to_owned()], &credential);
        assert_eq!(tcp.len(), 1);
        let both = ["stun:b:2".to_owned(), "turn:a:1".to_owned()];
        let both = ice_servers(&both, &credential);
        assert_eq!(both[0], IceServer { urls: vec!["stun:b:2".into()], credential: None });
        assert_eq!(both[1].urls, ["turn:a:1"]);
    }
}
