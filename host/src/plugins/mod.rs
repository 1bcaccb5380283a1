//! Plugins: what "active" means.
//!
//! Owns the versions of the plugins, the deployment that serves, and how another takes its place. A switch is
//! one durable write, then one pointer. It never compiles on the path of a request. The dangers that shaped
//! it: a client that notices a switch, a crash that leaves half of one, and one large component that keeps the
//! whole house from opening its door.
//!
//! | file | owns |
//! |---|---|
//! | `active` | the deployment that serves: one immutable value |
//! | `boot` | what serves after a start |
//! | `canary` | two versions of a plugin at a time |
//! | `check` | looking at a plugin before anything of it runs |
//! | `components` | the components of all kept versions, on disk |
//! | `deploy` | from the configuration to an active deployment, and back |
//! | `drain` | the end of a version that was replaced |
//! | `inspect` | what a component is |
//! | `plan` | what a deployment would change |
//! | `records` | versions and the pointer in the storage |
//! | `rooms` | which version runs a room |

mod active;
mod boot;
mod canary;
mod check;
mod components;
mod deploy;
mod drain;
pub mod inspect;
mod plan;
mod records;
mod rooms;

pub use active::{Active, Slot, State, Target};
pub use boot::Setup;
pub use canary::Canary;
pub use check::PluginError;
pub use deploy::{DeployError, DeployRequest, Outcome};
pub use drain::Draining;
pub use plan::{Change, Code, Difference, Kind, Plan, Setting};
pub use records::{KEPT, Pointer, Record, RolledBack, Share};
pub use rooms::ActiveVersions;

use crate::answers::AllAnswers;
use arc_swap::ArcSwap;
use components::Components;
use parking_lot::Mutex;
use records::Records;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often instances that wait are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// All plugins of the house: which deployment is active, and how another comes to be.
pub struct Plugins {
    active: ArcSwap<Active>,
    changes: watch::Sender<u64>,
    /// Held by whoever prepares the next deployment.
    deploying: tokio::sync::Mutex<()>,
    draining: Mutex<Vec<Draining>>,
    last: Mutex<Option<Outcome>>,
    records: Records,
    components: Components,
    answers: AllAnswers,
    setup: Setup,
}

impl Plugins {
    /// The deployment that serves now. Whoever acts for a request takes it once, so that all that the
    /// request meets is of one deployment; whoever outlives requests takes it anew after each change.
    pub fn active(&self) -> Arc<Active> {
        self.active.load_full()
    }

    /// Changes whenever another deployment serves, or a plugin of the active one has become ready.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// To be called after what others can see has changed.
    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// The last switch since the start.
    pub fn last_switch(&self) -> Option<Outcome> {
        self.last.lock().clone()
    }

    /// Drops instances that have waited too long, again and again.
    pub async fn sweep(self: Arc<Self>) {
        let mut interval = tokio::time::interval(SWEEP_EVERY);
        loop {
            interval.tick().await;
            for slot in self.active.load().all() {
                if let Some(version) = slot.active() {
                    version.sweep();
                }
            }
        }
    }
}
