//! `/v1/rooms`: what an operator sees of rooms, and can do to them.

use super::error::{ApiError, json_response};
use super::{Admin, Answer};
use crate::rooms::{Input, Mailbox, Order};
use crate::storage::rooms::{RoomKey, RoomMeta, Scan, Table};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::oneshot;

/// Rooms of one page.
const PAGE: usize = 1000;
/// Pairs and bytes of one page of an export.
const EXPORT: usize = 1000;
const EXPORT_BYTES: usize = 4 << 20;

/// One parameter of a query.
fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    query?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then(|| percent_decode_str(value).decode_utf8_lossy().into_owned())
    })
}

pub(super) async fn route(
    admin: &Admin,
    method: &str,
    query: Option<&str>,
    path: &[&str],
) -> Answer {
    match (method, path) {
        ("GET", []) => list(admin, query).await,
        ("GET", [plugin, name]) => {
            let key = key(plugin, name);
            let (meta, mailbox) = find(admin, &key).await?;
            Ok(json_response(StatusCode::OK, &show(admin, &key, meta.as_ref(), mailbox.as_deref())))
        }
        ("POST", [plugin, name, "close"]) => {
            let key = key(plugin, name);
            let (_, mailbox) = find(admin, &key).await?;
            let closed = match mailbox {
                Some(_) => {
                    let (done, closed) = oneshot::channel();
                    let reason = "closed by the operator".to_owned();
                    let order = Order::Close { code: 1001, reason, done };
                    admin.rooms.deliver(&key, Input::Order(order));
                    closed.await.unwrap_or(0)
                }
                None => 0,
            };
            Ok(json_response(StatusCode::OK, &json!({"closed": closed})))
        }
        ("GET", [plugin, name, "export"]) => export(admin, &key(plugin, name), query).await,
        ("DELETE", [plugin, name]) => {
            let key = key(plugin, name);
            find(admin, &key).await?;
            let (done, deleted) = oneshot::channel();
            admin.rooms.deliver(&key, Input::Order(Order::Delete { done }));
            match deleted.await {
                Ok(Ok(())) => Ok(json_response(StatusCode::OK, &json!({"deleted": true}))),
                _ => Err(ApiError::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "unavailable",
                    "The room could not be deleted; the log of the house says why.",
                )),
            }
        }
        _ => Err(ApiError::not_found(
            "There is no such call about rooms; docs/admin-api.md lists them.",
        )),
    }
}

fn key(plugin: &str, name: &str) -> RoomKey {
    RoomKey { plugin: plugin.into(), name: name.into() }
}

fn in_memory(admin: &Admin) -> BTreeMap<RoomKey, Arc<Mailbox>> {
    admin.rooms.in_memory().into_iter().map(|mailbox| (mailbox.key.clone(), mailbox)).collect()
}

async fn find(
    admin: &Admin,
    key: &RoomKey,
) -> Result<(Option<RoomMeta>, Option<Arc<Mailbox>>), ApiError> {
    let meta = admin.rooms.store().meta(key).resolve().await?;
    let mailbox = in_memory(admin).remove(key);
    if meta.is_none() && mailbox.is_none() {
        return Err(ApiError::not_found(format!(
            "There is no room `{}` of `{}`.",
            key.name, key.plugin
        )));
    }
    Ok((meta, mailbox))
}

async fn list(admin: &Admin, query: Option<&str>) -> Answer {
    let plugin = parameter(query, "plugin");
    let after = match (&plugin, parameter(query, "after")) {
        (Some(plugin), Some(after)) => Some(key(plugin, &after)),
        (None, Some(_)) => return Err(ApiError::invalid("`after` needs `plugin`.")),
        (_, None) => None,
    };
    let kept = admin.rooms.store().rooms(plugin.as_deref(), after.as_ref(), PAGE).resolve().await?;
    let more = kept.len() == PAGE;
    let mut memory = in_memory(admin);
    memory.retain(|key, _| plugin.as_deref().is_none_or(|plugin| *key.plugin == *plugin));
    let mut rooms: Vec<Value> = kept
        .iter()
        .map(|(key, meta)| show(admin, key, Some(meta), memory.remove(key).as_deref()))
        .collect();
    let cursor = more.then(|| kept.last().map(|(key, _)| key.name.to_string())).flatten();
    if after.is_none() && !more {
        // Those that have not written anything yet.
        rooms.extend(memory.iter().map(|(key, mailbox)| show(admin, key, None, Some(mailbox))));
    }
    Ok(json_response(StatusCode::OK, &json!({"rooms": rooms, "cursor": cursor})))
}

fn show(admin: &Admin, key: &RoomKey, meta: Option<&RoomMeta>, mailbox: Option<&Mailbox>) -> Value {
    let alarm = meta.and_then(|meta| meta.alarm).map(|alarm| {
        json!({
            "scheduled_at": alarm.scheduled_at,
            "due": alarm.due,
            "retries": alarm.retries,
            "parked": alarm.due.is_none(),
        })
    });
    let view = mailbox.map(|mailbox| &mailbox.view);
    json!({
        "plugin": &*key.plugin,
        "name": &*key.name,
        "version": admin.plugins.active().of_room(&key.plugin, &key.name).map(|slot| slot.number),
        "sockets": view.map_or(0, |view| view.sockets.load(Relaxed)),
        "awake": mailbox.is_some_and(Mailbox::is_awake),
        "events": view.map_or(0, |view| view.events.load(Relaxed)),
        "events_per_second": view.map_or(0.0, |view| (view.rate.now() * 10.0).round() / 10.0),
        "last_event": view.map(|view| view.last_event.load(Relaxed)).filter(|at| *at > 0),
        "bytes": meta.map_or(0, |meta| meta.bytes),
        "keys": meta.map_or(0, |meta| meta.keys),
        "schema": meta.map_or(0, |meta| meta.schema),
        "alarm": alarm,
    })
}

async fn export(admin: &Admin, key: &RoomKey, query: Option<&str>) -> Answer {
    find(admin, key).await?;
    let start = match parameter(query, "after") {
        Some(after) => {
            let mut start = STANDARD
                .decode(after)
                .map_err(|_| ApiError::invalid("`after` is a key in base64."))?;
            start.push(0);
            start
        }
        None => Vec::new(),
    };
    let scan = Scan { start, end: None, limit: EXPORT, bytes: EXPORT_BYTES, reverse: false };
    let pairs = admin.rooms.store().scan(key, Table::Data, scan).resolve().await?;
    let cursor = pairs.last().map(|(key, _)| STANDARD.encode(key));
    let pairs: Vec<Value> = pairs
        .iter()
        .map(|(key, value)| json!({"key": STANDARD.encode(key), "value": STANDARD.encode(value)}))
        .collect();
    Ok(json_response(StatusCode::OK, &json!({"pairs": pairs, "cursor": cursor})))
}
