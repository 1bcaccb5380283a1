//! What a plugin can be granted, one file an interface.
//!
//! Each capability has four moments. *Link*, once for the engine: `add_to_linker`. *Configure*, when a
//! plugin is loaded: its grants are made from the configuration and checked against what the component
//! imports, so that nothing is found missing at the time of a request. *Prepare*, for each instance: a view
//! that borrows the plugin's grants. *Serve*: the calls. A name that is not granted does not exist for the
//! plugin, whoever else has it.

pub mod budget;
pub mod callers;
pub mod fetch;
pub mod identity;
pub mod kv;
pub mod peers;
pub mod rooms;
pub mod secrets;
pub mod settings;
mod streams;
pub mod wasi_keyvalue;

/// What an import needs in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Nothing: it is there for every plugin, and gives nothing away.
    Free,
    /// A line in the plugin's table.
    Needs {
        /// The key of the line.
        key: &'static str,
        /// The line.
        example: &'static str,
    },
    /// This host does not have it.
    Unknown,
}

/// What importing this interface needs. `import` is a name such as `wasi:keyvalue/store@0.2.0-draft`.
#[must_use]
pub fn grant_for(import: &str) -> Grant {
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    let Some((package, name)) = interface.split_once('/') else { return Grant::Unknown };
    let kv = Grant::Needs { key: "kv", example: "kv = [\"default\"]" };
    let stable = version.starts_with("0.2.") && !version.contains('-');
    let preview3 = version.starts_with("0.3.") && !version.contains('-');
    match (package, name) {
        ("wasi:io", _) if stable => Grant::Free,
        (
            "wasi:cli" | "wasi:clocks" | "wasi:random" | "wasi:filesystem" | "wasi:sockets"
            | "wasi:http",
            _,
        ) if stable || preview3 => Grant::Free,
        ("wasi:config", "store") if version == "0.2.0-rc.1" => Grant::Free,
        ("wasi:keyvalue", "store" | "atomics" | "batch")
            if matches!(version, "0.2.0-draft" | "0.2.0-draft2") =>
        {
            kv
        }
        ("guesthouse:fetch", "grants") if version.starts_with("0.1.") => Grant::Free,
        ("guesthouse:identity", "identity") | ("guesthouse:budget", "tokens")
            if version.starts_with("0.1.") =>
        {
            Grant::Free
        }
        ("guesthouse:kv", "store") if version.starts_with("0.1.") => kv,
        ("guesthouse:secrets", "store") if version.starts_with("0.1.") => {
            Grant::Needs { key: "secrets", example: "secrets = [\"NAME\"]" }
        }
        // Words that the others share.
        ("guesthouse:rooms", "types") if version.starts_with("0.1.") => Grant::Free,
        ("guesthouse:rooms", "peers") if version.starts_with("0.1.") => {
            Grant::Needs { key: "peers", example: "peers = [\"PLUGIN\"]" }
        }
        ("guesthouse:rooms", "self-room" | "storage" | "alarms" | "connections")
            if version.starts_with("0.1.") =>
        {
            Grant::Needs { key: "rooms", example: "rooms = { routes = [\"/live/{room}\"] }" }
        }
        _ => Grant::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_interfaces_are_free_and_give_nothing_away() {
        for import in [
            "wasi:io/streams@0.2.0",
            "wasi:cli/stdout@0.2.12",
            "wasi:http/outgoing-handler@0.2.3",
            "wasi:http/client@0.3.0",
            "wasi:sockets/tcp@0.2.9",
            "wasi:config/store@0.2.0-rc.1",
            "guesthouse:fetch/grants@0.1.0",
            "guesthouse:identity/identity@0.1.0",
            "guesthouse:budget/tokens@0.1.0",
            "guesthouse:rooms/types@0.1.0",
        ] {
            assert_eq!(grant_for(import), Grant::Free, "{import}");
        }
    }

    #[test]
    fn data_and_secrets_need_a_line() {
        for (import, line) in [
            ("guesthouse:kv/store@0.1.0", "kv"),
            ("wasi:keyvalue/store@0.2.0-draft", "kv"),
            ("wasi:keyvalue/atomics@0.2.0-draft2", "kv"),
            ("guesthouse:secrets/store@0.1.3", "secrets"),
            ("guesthouse:rooms/self-room@0.1.0", "rooms"),
            ("guesthouse:rooms/peers@0.1.0", "peers"),
        ] {
            assert!(
                matches!(grant_for(import), Grant::Needs { key, .. } if key == line),
                "{import}"
            );
        }
    }

    #[test]
    fn what_the_host_has_not_is_unknown() {
        for import in [
            "ghost:import/thing",
            "wasi:http/types@0.2.0-rc-2023-12-05",
            "wasi:keyvalue/watcher@0.2.0-draft",
            "guesthouse:kv/store@0.2.0",
            "env",
        ] {
            assert_eq!(grant_for(import), Grant::Unknown, "{import}");
        }
    }
}
