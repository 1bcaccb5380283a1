//! Two versions of a plugin at a time.
//!
//! Owns which of them a caller or a room gets, and the three ends of a canary: it takes over, the operator takes
//! it back, or it is taken back by itself. Who gets which is computed from names and from nothing else: nothing is
//! remembered, so it is the same on every thread, in every process and after every crash. The danger that shaped
//! it: a caller, or worse a room, that meets one version now and the other a moment later.

use super::active::{Active, Places, Slot, State};
use super::deploy::{DeployError, Outcome, Step, flatten};
use super::plan::{Kind, Plan};
use super::records::{Record, RolledBack, now};
use super::{DeployRequest, Plugins};
use crate::auth::{Caller, Principal};
use crate::engine::{Tally, Watch};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Settings that count before it is known which version a request gets.
const BEFORE_THE_CHOICE: [&str; 3] = ["auth", "rate", "budget_tokens"];
/// How long to wait after a canary could not be taken back.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// A version that serves a share of the callers, beside the one that serves the others.
pub struct Canary {
    /// Its place.
    pub slot: Arc<Slot>,
    /// Of a hundred callers so many get it.
    pub percent: u8,
    /// Milliseconds since 1970.
    pub since: u64,
    pub(super) watch: Arc<Watch>,
}

impl Canary {
    pub(super) fn new(slot: Arc<Slot>, percent: u8, since: u64) -> Arc<Self> {
        let watch = slot.watch.clone().unwrap_or_else(|| Watch::new(slot.plugin.canary));
        Arc::new(Self { slot, percent, since, watch })
    }

    /// The same version for another share; what it has done so far goes on counting.
    pub(super) fn with(&self, percent: u8) -> Arc<Self> {
        let (slot, watch) = (self.slot.clone(), self.watch.clone());
        Arc::new(Self { slot, percent, since: self.since, watch })
    }

    /// Whether this caller gets it: who was verified wherever they come from, others by their address.
    #[must_use]
    pub fn serves_caller(&self, principal: Option<&Principal>, address: IpAddr) -> bool {
        self.serves(&Caller::account_name(principal, address))
    }

    /// The same for a call of another plugin, which is for somebody or else for that plugin itself.
    #[must_use]
    pub fn serves_plugin(&self, principal: Option<&Principal>, plugin: &str) -> bool {
        match principal {
            // An address that nobody has: it does not count beside a principal.
            Some(_) => self.serves_caller(principal, IpAddr::from([0, 0, 0, 0])),
            None => self.serves(&format!("p {plugin}")),
        }
    }

    /// Whether this room runs it.
    #[must_use]
    pub fn runs_room(&self, name: &str) -> bool {
        // A room waits for its version, and does not run another one meanwhile.
        let fit = !self.watch.is_over() && !matches!(self.slot.state(), State::Failed(_));
        fit && self.falls_to(&format!("r {name}"))
    }

    fn serves(&self, key: &str) -> bool {
        !self.watch.is_over() && self.slot.active().is_some() && self.falls_to(key)
    }

    fn falls_to(&self, key: &str) -> bool {
        place(&self.slot.plugin.name, self.slot.number, key) < self.percent
    }

    /// Its last answers.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.watch.tally()
    }
}

/// Where a caller stands among a hundred. With a higher share more get the canary, and nobody loses it. Each
/// version is tried on others.
fn place(plugin: &str, number: u64, key: &str) -> u8 {
    let digest = Sha256::digest(format!("{plugin} {number} {key}"));
    let number = digest.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    u8::try_from(number % 100).unwrap_or(0)
}

impl Places {
    /// A version gets its place: for all callers, or for so many of a hundred.
    pub(super) fn put(&mut self, name: &str, slot: Arc<Slot>, percent: Option<u8>) {
        self.rolled_back.remove(name);
        match percent {
            Some(percent) => {
                self.canaries.insert(name.to_owned(), Canary::new(slot, percent, now()));
            }
            None => {
                self.canaries.remove(name);
                self.slots.insert(name.to_owned(), slot);
            }
        }
    }

    /// Everything else that can happen to a plugin.
    pub(super) fn take(&mut self, name: &str, step: Step) {
        let canary = self.canaries.remove(name);
        match (step, canary) {
            (Step::Share(percent), Some(canary)) => {
                self.canaries.insert(name.to_owned(), canary.with(percent));
            }
            (Step::TakesOver, Some(canary)) => {
                self.slots.insert(name.to_owned(), canary.slot.clone());
            }
            (Step::Ends(rolled_back), _) => {
                self.rolled_back.extend(rolled_back.map(|why| (name.to_owned(), why)));
            }
            (Step::Removed, _) => {
                self.slots.remove(name);
                self.rolled_back.remove(name);
            }
            // Without a canary there is nothing to share or to take over; a new version has its place already.
            (Step::New(..) | Step::Share(_) | Step::TakesOver, _) => {}
        }
    }
}

impl Active {
    /// The version of a plugin that runs this room.
    pub fn of_room(&self, plugin: &str, room: &str) -> Option<&Arc<Slot>> {
        match self.canary(plugin) {
            Some(canary) if canary.runs_room(room) => Some(&canary.slot),
            _ => self.get(plugin),
        }
    }
}

impl Plugins {
    /// Gives a canary this share of the callers, or without one all of them.
    ///
    /// # Errors
    /// There is none, or the storage failed: nothing has changed.
    pub async fn promote(
        self: &Arc<Self>,
        plugin: String,
        percent: Option<u8>,
    ) -> Result<Outcome, DeployError> {
        let plugins = self.clone();
        let work = async move { plugins.promote_here(&plugin, percent).await };
        flatten(tokio::spawn(work).await)
    }

    async fn promote_here(
        self: &Arc<Self>,
        name: &str,
        percent: Option<u8>,
    ) -> Result<Outcome, DeployError> {
        let began = Instant::now();
        let percent = percent.filter(|percent| *percent != 100);
        check_share(percent)?;
        let _turn = self.deploying.lock().await;
        let base = self.active();
        let canary = base.canary(name).ok_or_else(|| {
            DeployError::NotFound(format!("no canary of plugin `{name}` is running"))
        })?;
        if percent.is_none() && canary.slot.active().is_none() {
            return Err(DeployError::Canary(format!(
                "the canary of plugin `{name}` is not ready to serve all callers"
            )));
        }
        let outcome = self.outcome(&base, name, canary.slot.number, percent).await?;
        let step = percent.map_or(Step::TakesOver, Step::Share);
        self.replace(outcome, BTreeMap::from([(name.to_owned(), step)]), began).await
    }

    /// Makes an earlier version of a plugin the active one. Without a number that is the one before, or, while a
    /// canary runs, the one beside it.
    ///
    /// # Errors
    /// See [`DeployError`]; nothing has changed then.
    pub async fn rollback(
        self: &Arc<Self>,
        plugin: String,
        number: Option<u64>,
    ) -> Result<Outcome, DeployError> {
        let plugins = self.clone();
        let work = async move { plugins.rollback_here(&plugin, number).await };
        flatten(tokio::spawn(work).await)
    }

    async fn rollback_here(
        self: &Arc<Self>,
        name: &str,
        number: Option<u64>,
    ) -> Result<Outcome, DeployError> {
        let began = Instant::now();
        let _turn = self.deploying.lock().await;
        let base = self.active();
        let now = base.get(name).map(|slot| slot.number);
        let canary = base.canary(name).map(|canary| canary.slot.number);
        let kept = self.records.versions(name).await?;
        let before = |record: &&Record| now.is_none_or(|now| record.number < now);
        let target = match number.or(now.filter(|_| canary.is_some())) {
            Some(number) => kept.iter().find(|record| record.number == number),
            None => kept.iter().rev().find(before),
        };
        let Some(target) = target else {
            return Err(DeployError::NotFound(no_version(name, number, &kept)));
        };
        let mut outcome = self.outcome(&base, name, target.number, None).await?;
        if let Some(number) = canary.filter(|number| *number != target.number) {
            outcome.plan.ends(name, number);
        }
        let step = if canary == Some(target.number) {
            Step::TakesOver
        } else if now != Some(target.number) {
            Step::New(Box::new(self.kept(target.clone())?), None)
        } else if canary.is_some() {
            Step::Ends(None)
        } else {
            return Ok(outcome);
        };
        self.replace(outcome, BTreeMap::from([(name.to_owned(), step)]), began).await
    }

    /// What giving a plugin another of its versions changes.
    async fn outcome(
        &self,
        base: &Active,
        name: &str,
        number: u64,
        canary: Option<u8>,
    ) -> Result<Outcome, DeployError> {
        let active = self.active_records(base).await?;
        let mut wanted = active.clone();
        if let Some(record) = self.records.version(name, number).await? {
            wanted.insert(name.to_owned(), record);
        }
        Ok(Outcome::of(Plan::new(base.sequence(), &active, &wanted, &|_| false, canary)))
    }

    /// Canaries that are no longer such are not watched any more, and new ones are. Needs the runtime.
    pub(super) fn watch_canaries(self: &Arc<Self>, old: &Active, new: &Active) {
        let is_in = |active: &Active, watch: &Arc<Watch>| {
            active.canaries().values().any(|canary| Arc::ptr_eq(&canary.watch, watch))
        };
        for canary in old.canaries().values().filter(|canary| !is_in(new, &canary.watch)) {
            canary.watch.end();
        }
        for canary in new.canaries().values().filter(|canary| !is_in(old, &canary.watch)) {
            self.guard(canary);
        }
    }

    /// Sees to it that a canary does not harm those whom it serves for long. Needs the runtime.
    fn guard(self: &Arc<Self>, canary: &Canary) {
        let plugins = self.clone();
        let (name, number) = (canary.slot.plugin.name.clone(), canary.slot.number);
        let watch = canary.watch.clone();
        tokio::spawn(async move {
            let Some(reason) = watch.verdict().await else { return };
            // From here on nobody new gets it; what follows makes that last.
            tracing::error!(plugin = %name, version = number, "the canary is taken back: {reason}");
            while let Err(error) = plugins.take_back(&name, number, &reason).await {
                tracing::error!(
                    plugin = %name,
                    version = number,
                    "that the canary was taken back could not be kept, and is tried again: {error}"
                );
                tokio::time::sleep(TRY_AGAIN).await;
            }
        });
    }

    async fn take_back(
        self: &Arc<Self>,
        name: &str,
        number: u64,
        reason: &str,
    ) -> Result<(), DeployError> {
        let began = Instant::now();
        let _turn = self.deploying.lock().await;
        let base = self.active();
        // Somebody may have been quicker.
        let Some(slot) = base.get(name) else { return Ok(()) };
        if base.canary(name).is_none_or(|canary| canary.slot.number != number) {
            return Ok(());
        }
        let mut outcome = self.outcome(&base, name, slot.number, None).await?;
        outcome.plan.ends(name, number);
        let rolled_back = RolledBack { version: number, at: now(), reason: reason.to_owned() };
        let step = Step::Ends(Some(rolled_back));
        self.replace(outcome, BTreeMap::from([(name.to_owned(), step)]), began).await.map(drop)
    }
}

/// Whether this can be the share of a canary.
pub(super) fn check_share(percent: Option<u8>) -> Result<(), DeployError> {
    match percent {
        Some(percent) if !(1..=99).contains(&percent) => Err(DeployError::Canary(format!(
            "a canary gets 1% to 99% of the callers, not {percent}%"
        ))),
        _ => Ok(()),
    }
}

/// Whether what a deployment changes can be tried on a share of the callers.
pub(super) fn check_plan(
    plan: &Plan,
    request: &DeployRequest,
    verifier: Option<&str>,
) -> Result<(), DeployError> {
    check_share(request.canary)?;
    if request.canary.is_none() {
        return Ok(());
    }
    for change in plan.plugins.iter().filter(|change| change.change != Kind::Unchanged) {
        let name = &change.plugin;
        let before = |key: &str| {
            let key = key.split('.').next().unwrap_or_default();
            BEFORE_THE_CHOICE.contains(&key)
        };
        let rooms = |list: &[String]| list.iter().any(|grant| grant == "rooms");
        let first = change.settings.iter().find(|setting| before(&setting.key));
        let why = if change.change != Kind::Changed {
            "there is no other version that it could stand beside".to_owned()
        } else if verifier == Some(name.as_str()) {
            "it verifies callers, and whom it serves is known only when it has".to_owned()
        } else if !change.routes.is_empty() {
            "its routes change, and a request finds its plugin before its version".to_owned()
        } else if rooms(&change.grants.added) || rooms(&change.grants.removed) {
            "both versions must have rooms, or none".to_owned()
        } else if let Some(setting) = first {
            format!(
                "`{}` changes, which counts before it is known who gets which version",
                setting.key
            )
        } else {
            continue;
        };
        return Err(DeployError::Canary(format!(
            "plugin `{name}` can't be a canary: {why}. Deploy that change to all first, or name other plugins \
             with --plugin"
        )));
    }
    Ok(())
}

fn no_version(name: &str, number: Option<u64>, kept: &[Record]) -> String {
    let kept: Vec<String> = kept.iter().map(|record| record.number.to_string()).collect();
    match number {
        _ if kept.is_empty() => format!("there is no plugin `{name}`, and there never was one"),
        Some(number) => {
            format!("plugin `{name}` has no version {number}; kept are {}", kept.join(", "))
        }
        None => format!("plugin `{name}` has no version before the active one"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_share_is_what_it_says() {
        for percent in [1, 10, 50, 99] {
            let count = (0..10_000)
                .filter(|caller| place("guest", 7, &format!("a 10.0.{caller}")) < percent)
                .count();
            let wanted = usize::from(percent) * 100;
            assert!(count.abs_diff(wanted) < 200, "{percent}%: {count} of 10000");
        }
    }

    #[test]
    fn each_version_is_tried_on_others() {
        let chosen = |number: u64| -> Vec<u32> {
            let name = |caller: &u32| format!("a 10.0.0.{caller}");
            (0..1000).filter(|caller| place("guest", number, &name(caller)) < 10).collect()
        };
        let (second, third) = (chosen(2), chosen(3));
        let both = second.iter().filter(|caller| third.contains(caller)).count();
        assert!(both < second.len() / 2, "{both} of {}", second.len());
    }

    proptest! {
        #[test]
        fn a_place_is_one_of_a_hundred_and_always_the_same(
            plugin in "[a-z-]{1,20}", number: u64, key in ".*",
        ) {
            let found = place(&plugin, number, &key);
            prop_assert!(found < 100);
            prop_assert_eq!(found, place(&plugin, number, &key));
        }
    }
}
