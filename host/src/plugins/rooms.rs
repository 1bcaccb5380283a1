//! Which version runs a room.

use super::Plugins;
use crate::rooms::{Active, Versions};
use crate::storage::rooms::RoomKey;
use std::sync::Arc;

/// The versions that are active: rooms ask at every event, and so run new code from their next event on.
pub struct ActiveVersions(pub Arc<Plugins>);

impl Versions for ActiveVersions {
    fn active(&self, room: &RoomKey) -> Active {
        let active = self.0.active();
        let Some(slot) = active.of_room(&room.plugin, &room.name) else { return Active::Gone };
        if slot.plugin.rooms.is_none() {
            return Active::Gone;
        }
        slot.active().map_or(Active::Later, Active::Ready)
    }
}
