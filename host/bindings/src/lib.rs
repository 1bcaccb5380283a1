//! Host bindings, generated from `wit/`.
//!
//! Owns the generated code and nothing else. A crate of its own, because expanding and compiling
//! the bindings takes longer than all of the host, and they change rarely. The resources map to
//! types that are defined here, so that the host's capabilities implement the generated traits for
//! views of their own.

pub use wasmtime_wasi::p2::bindings::io as wasi_io;

/// What stands behind a guest's handle; the host fills these in.
pub mod handles;

mod generated {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "guesthouse:plugin/host",
        imports: {
            "guesthouse:kv/store.open": trappable,
            "guesthouse:secrets/store": trappable,
            "guesthouse:identity/identity": store | trappable,
            "guesthouse:budget/tokens": store | trappable,
            "guesthouse:fetch/grants": trappable,
            "wasi:config/store": trappable,
            default: async | trappable,
        },
        require_store_data_send: true,
        with: {
            "wasi:io": wasmtime_wasi::p2::bindings::io,
            "guesthouse:rooms/types": crate::generated_rooms::guesthouse::rooms::types,
            "guesthouse:rooms/peers": crate::generated_rooms::guesthouse::rooms::peers,
            "guesthouse:kv/store.bucket": crate::handles::Namespace,
            "guesthouse:secrets/store.secret": crate::handles::Secret,
            "guesthouse:budget/tokens.reservation": crate::handles::Reservation,
            "wasi:keyvalue/store@0.2.0-draft.bucket": crate::handles::Namespace,
            "wasi:keyvalue/store@0.2.0-draft2.bucket": crate::handles::Namespace,
            "wasi:keyvalue/atomics@0.2.0-draft2.cas": crate::handles::Cas,
        },
    });
}

/// What the host calls: the verifier of an auth plugin.
pub mod called {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "guesthouse:plugin/called",
        exports: { default: async },
        require_store_data_send: true,
        with: {
            "guesthouse:identity/identity": crate::generated::guesthouse::identity::identity,
        },
    });
}

mod generated_rooms {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "guesthouse:rooms/room-only",
        imports: {
            "guesthouse:rooms/self-room.commit": async | trappable,
            "guesthouse:rooms/storage.usage": trappable,
            "guesthouse:rooms/storage": async | trappable,
            "guesthouse:rooms/peers": async | trappable,
            default: trappable,
        },
        exports: { default: async },
        require_store_data_send: true,
    });
}

pub use generated::guesthouse;
pub use generated::wasi;

/// `guesthouse:rooms`: what the host links for a room, and the calls into it.
pub mod rooms {
    pub use crate::generated_rooms::guesthouse::rooms::{
        alarms, connections, peers, self_room, storage, types,
    };
    pub use crate::generated_rooms::{RoomOnly, RoomOnlyPre};
}
