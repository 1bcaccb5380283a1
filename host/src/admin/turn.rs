//! `/v1/turn`: what the relay does, and how to end it.

use super::error::{ApiError, json_response};
use super::{Admin, Answer};
use crate::turn::Relay;
use http::StatusCode;
use serde_json::{Map, Value, json};
use std::sync::atomic::Ordering::Relaxed;
use std::time::UNIX_EPOCH;
use webrtc_turn::allocation::AllocationInfo;
use webrtc_turn::limits::{Traffic, TransportKind};

pub(super) fn route(admin: &Admin, method: &str, path: &[&str]) -> Answer {
    let relay = admin.relay.as_ref().ok_or_else(|| {
        ApiError::not_found(
            "This house has no relay: it has one in development, and where `listen` in [turn] says.",
        )
    })?;
    match (method, path) {
        ("GET", []) => Ok(json_response(StatusCode::OK, &summary(relay))),
        ("GET", ["allocations"]) => {
            let all: Vec<Value> = relay.server().get_allocations_info().iter().map(show).collect();
            Ok(json_response(StatusCode::OK, &json!({ "allocations": all })))
        }
        ("DELETE", ["allocations", id]) => {
            let ended = id.parse().is_ok_and(|id| relay.server().delete_allocation(id));
            if !ended {
                return Err(ApiError::not_found(format!(
                    "There is no allocation {id}; `GET /v1/turn/allocations` lists them."
                )));
            }
            tracing::info!("the operator ended allocation {id} of the relay");
            Ok(json_response(StatusCode::OK, &json!({ "ended": 1 })))
        }
        ("DELETE", ["users", user]) => {
            let ended = relay.server().delete_allocations_by_user(user);
            tracing::info!("the operator ended {ended} allocations of a user of the relay");
            Ok(json_response(StatusCode::OK, &json!({ "ended": ended })))
        }
        _ => Err(ApiError::not_found(
            "There is no such call about the relay; docs/admin-api.md lists them.",
        )),
    }
}

fn summary(relay: &Relay) -> Value {
    let settings = relay.settings();
    let counters: Map<String, Value> =
        relay.counters().list().into_iter().map(|(name, n)| (name.to_owned(), n.into())).collect();
    let traffic: Map<String, Value> = TransportKind::ALL
        .iter()
        .zip(&relay.counters().traffic)
        .map(|(kind, traffic)| (kind.name().to_owned(), show_traffic(traffic)))
        .collect();
    let listeners: Vec<String> = relay
        .listeners()
        .iter()
        .map(|(kind, address)| format!("{}://{address}", kind.name()))
        .collect();
    let relays: Vec<Value> = relay
        .relay_addresses()
        .map(|(bound, told)| json!({ "bound": bound, "told": told }))
        .collect();
    json!({
        "listeners": listeners,
        "relays": relays,
        "ports": format!("{}-{}", settings.ports.start(), settings.ports.end()),
        "realm": settings.realm,
        "secrets": settings.secrets,
        "allow_private_peers": settings.allow_private_peers,
        "allocations": relay.server().allocations(),
        "connections": relay.connections(),
        "counters": counters,
        "traffic": traffic,
    })
}

fn show_traffic(traffic: &Traffic) -> Value {
    json!({
        "packets_to_peers": traffic.packets_to_peers.load(Relaxed),
        "bytes_to_peers": traffic.bytes_to_peers.load(Relaxed),
        "packets_from_peers": traffic.packets_from_peers.load(Relaxed),
        "bytes_from_peers": traffic.bytes_from_peers.load(Relaxed),
    })
}

fn show(info: &AllocationInfo) -> Value {
    json!({
        "id": info.id,
        "user": info.user,
        "transport": info.transport.name(),
        "client": info.five_tuple.src_addr,
        "relay": info.relay_addr,
        "created": info.created.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        "remaining": info.remaining.as_secs(),
        "peers": info.peers,
        "bytes_to_peers": info.bytes_to_peers,
        "bytes_from_peers": info.bytes_from_peers,
    })
}
