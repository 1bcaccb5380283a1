//! What an operator sees of canaries.

use super::{state, status as of_slot};
use crate::plugins::{Active, Canary, RolledBack};
use serde_json::{Value, json};

/// What an operator wants to know of a plugin.
pub(super) fn status(active: &Active, name: &str) -> Value {
    let Some(slot) = active.get(name) else { return Value::Null };
    let mut status = of_slot(slot);
    if let Value::Object(status) = &mut status {
        status.insert("canary".to_owned(), active.canary(name).map(|canary| show(canary)).into());
        let rolled_back = active.rolled_back(name).map(ended);
        status.insert("rolled_back".to_owned(), rolled_back.into());
    }
    status
}

fn show(canary: &Canary) -> Value {
    let slot = &canary.slot;
    let (state, message) = state(slot);
    let tally = canary.tally();
    json!({
        "number": slot.number,
        "percent": canary.percent,
        "since": canary.since,
        "state": state,
        "message": message,
        "digest": slot.digest,
        "last_answers": tally.answers,
        "errors": tally.errors,
        "traps": tally.traps,
        "version": of_slot(slot).get("version"),
    })
}

fn ended(canary: &RolledBack) -> Value {
    json!({"number": canary.version, "at": canary.at, "reason": canary.reason})
}
