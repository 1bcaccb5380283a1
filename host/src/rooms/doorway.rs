//! The way from plugins to rooms.
//!
//! Owns one reference that is set once. Plugins are loaded before there are rooms, and rooms run plugins: so what
//! a plugin holds is the place where the rooms will be, and it never keeps them alive.

use super::Rooms;
use std::sync::{Arc, OnceLock, Weak};

/// The place where the rooms of the house will be.
#[derive(Default)]
pub struct Doorway(OnceLock<Weak<Rooms>>);

impl Doorway {
    /// From now on there are rooms.
    pub fn open(&self, rooms: &Arc<Rooms>) {
        // A house has rooms once.
        _ = self.0.set(Arc::downgrade(rooms));
    }

    /// The rooms; none: not yet, or not any more.
    #[must_use]
    pub fn rooms(&self) -> Option<Arc<Rooms>> {
        self.0.get()?.upgrade()
    }
}
