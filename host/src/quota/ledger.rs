//! The accounts of all callers.
//!
//! Owns what is remembered of each caller and plugin: in memory while it is used, in the storage behind
//! that, written at most [`FLUSH_EVERY`] later and when the house closes. It never waits for a write, and
//! never takes a failing read for an empty account: whoever's account can't be read is not let in.

use super::budget::{Budget, Spent};
use super::rate::{self, Micros, Standing};
use crate::config::Quota;
use crate::storage::{Expiry, Operation, PutOptions, Store, StoreError};
use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a change may be in memory alone: what a crash may forget.
pub const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// Accounts in memory at a time; the others are read again when they are needed.
const IN_MEMORY: u64 = 100_000;
/// Accounts of one write: the storage's own limit.
const WRITE: usize = 1000;
/// The storage's name for the accounts: no configuration can grant it to a plugin.
const NAMESPACE: &str = "~~quota";
/// Bytes of a stored account: a format number and four numbers.
const STORED: usize = 1 + 4 * 8;

/// Why an account could not be had.
#[derive(Debug, thiserror::Error)]
#[error("an account of `rate` or `budget_tokens` could not be read: {0}")]
pub struct LedgerError(StoreError);

/// What one caller has taken of one plugin.
pub struct Account {
    key: Box<str>,
    pub(super) state: Mutex<AccountState>,
    /// Whether it is on the list of what must be written.
    dirty: AtomicBool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AccountState {
    full_at: Micros,
    pub(super) spent: Spent,
    /// Milliseconds since 1970 at which `spent` means nothing any more.
    pub(super) spent_until: u64,
}

impl AccountState {
    fn store(self) -> Bytes {
        let mut bytes = Vec::with_capacity(STORED);
        bytes.push(1);
        for number in [self.full_at, self.spent.since, self.spent.tokens, self.spent_until] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.into()
    }

    fn load(bytes: &[u8]) -> Option<Self> {
        let (1, numbers) = bytes.split_first()? else { return None };
        let mut numbers = numbers.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        Some(Self {
            full_at: numbers.next()?,
            spent: Spent { since: numbers.next()?, tokens: numbers.next()? },
            spent_until: numbers.next()?,
        })
    }
}

/// All accounts.
pub struct Ledger {
    store: Arc<dyn Store>,
    accounts: moka::sync::Cache<Box<str>, Arc<Account>>,
    /// What must be written. An account that leaves `accounts` meanwhile is found here.
    dirty: Mutex<HashMap<Box<str>, Arc<Account>>>,
}

impl Ledger {
    /// The ledger that is in this storage.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            store,
            accounts: moka::sync::Cache::new(IN_MEMORY),
            dirty: Mutex::default(),
        })
    }

    /// The account of a caller with a plugin. `caller` is any text that names the caller.
    ///
    /// # Errors
    /// The storage can't be read.
    pub async fn account(&self, plugin: &str, caller: &str) -> Result<Arc<Account>, LedgerError> {
        let digest = Sha256::digest(caller.as_bytes());
        let key = format!("{plugin}/{}", hex::encode(digest)).into_boxed_str();
        if let Some(account) = self.accounts.get(&key) {
            return Ok(account);
        }
        let waiting = self.dirty.lock().get(&key).cloned();
        let account = match waiting {
            Some(account) => account,
            None => {
                let stored =
                    self.store.get(NAMESPACE, &key).resolve().await.map_err(LedgerError)?;
                let state = stored.and_then(|entry| AccountState::load(&entry.value));
                Arc::new(Account {
                    key: key.clone(),
                    state: Mutex::new(state.unwrap_or_default()),
                    dirty: AtomicBool::new(false),
                })
            }
        };
        // Whoever came first made the account that counts.
        Ok(self.accounts.entry(key).or_insert(account).into_value())
    }

    /// Takes a request from an account's allowance.
    pub fn take(&self, account: &Arc<Account>, quota: Quota) -> Standing {
        let standing = rate::take(quota, &mut account.state.lock().full_at, now_us());
        if standing.allowed {
            self.changed(account);
        }
        standing
    }

    /// What an account may spend.
    pub fn budget(self: &Arc<Self>, account: &Arc<Account>, quota: Quota) -> Budget {
        Budget { account: account.clone(), ledger: self.clone(), quota }
    }

    /// Notes that an account must be written.
    pub(super) fn changed(&self, account: &Arc<Account>) {
        if !account.dirty.swap(true, SeqCst) {
            self.dirty.lock().insert(account.key.clone(), account.clone());
        }
    }

    /// Writes what has changed.
    ///
    /// # Errors
    /// The storage's; what was not written is written with the next flush.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let changed: Vec<Arc<Account>> = self.dirty.lock().values().cloned().collect();
        let now = now_ms();
        for part in changed.chunks(WRITE) {
            let operations = part
                .iter()
                .map(|account| {
                    // First the mark, then the state: what changes after this line is marked again.
                    account.dirty.store(false, SeqCst);
                    let state = *account.state.lock();
                    let until = (state.full_at / 1000).max(state.spent_until).max(now) + 1000;
                    Operation::Put {
                        key: account.key.to_string(),
                        value: state.store(),
                        options: PutOptions { expires: Expiry::At(until), ..PutOptions::default() },
                    }
                })
                .collect();
            let written = self.store.write(NAMESPACE, operations).await;
            let mut dirty = self.dirty.lock();
            for account in part {
                if written.is_err() {
                    account.dirty.store(true, SeqCst);
                } else if !account.dirty.load(SeqCst) {
                    dirty.remove(&account.key);
                }
            }
            drop(dirty);
            written?;
            tracing::debug!("{} accounts of callers are written", part.len());
        }
        Ok(())
    }

    /// Flushes again and again.
    pub async fn keep(self: Arc<Self>) {
        let mut interval = tokio::time::interval(FLUSH_EVERY);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            interval.tick().await;
            match self.flush().await {
                Ok(()) => failing = false,
                Err(error) => {
                    if !failing {
                        tracing::error!(
                            "what callers have used of `rate` and `budget_tokens` can't be written, and \
                             would be forgotten by a restart: {error}"
                        );
                    }
                    failing = true;
                }
            }
        }
    }
}

pub(super) fn now_ms() -> u64 {
    now_us() / 1000
}

fn now_us() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros::try_from(since.as_micros()).unwrap_or(Micros::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::config::Durability;
    use crate::storage::Limits;
    use crate::storage::rocks::Rocks;

    const HUNDRED: Quota = Quota { count: 100, per: Duration::from_secs(31 * 86_400) };

    fn store(folder: &std::path::Path) -> Arc<dyn Store> {
        Rocks::open(folder, Limits::default(), Durability::Process, 1 << 20).unwrap()
    }

    #[tokio::test]
    async fn what_was_taken_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        {
            let ledger = Ledger::new(store(folder.path()));
            let account = ledger.account("p", "anna").await.unwrap();
            assert_eq!(ledger.take(&account, HUNDRED).remaining, 99);
            ledger.budget(&account, HUNDRED).charge(30);
            ledger.flush().await.unwrap();
            assert!(ledger.dirty.lock().is_empty());
        }
        let ledger = Ledger::new(store(folder.path()));
        let account = ledger.account("p", "anna").await.unwrap();
        assert_eq!(ledger.take(&account, HUNDRED).remaining, 98);
        assert_eq!(ledger.budget(&account, HUNDRED).remaining().0, 70);
        let other = ledger.account("p", "berta").await.unwrap();
        assert_eq!(ledger.take(&other, HUNDRED).remaining, 99);
        let elsewhere = ledger.account("q", "anna").await.unwrap();
        assert_eq!(ledger.budget(&elsewhere, HUNDRED).remaining().0, 100);
    }

    #[tokio::test]
    async fn an_account_that_left_memory_is_the_same_one_until_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(store(folder.path()));
        let account = ledger.account("p", "anna").await.unwrap();
        ledger.take(&account, HUNDRED);
        ledger.accounts.invalidate_all();
        let again = ledger.account("p", "anna").await.unwrap();
        assert!(Arc::ptr_eq(&account, &again));
        ledger.flush().await.unwrap();
        ledger.accounts.invalidate_all();
        let again = ledger.account("p", "anna").await.unwrap();
        assert_eq!(ledger.take(&again, HUNDRED).remaining, 98);
    }

    #[tokio::test]
    async fn a_reservation_counts_until_it_is_settled_and_overdrawing_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(store(folder.path()));
        let account = ledger.account("p", "anna").await.unwrap();
        let budget = ledger.budget(&account, HUNDRED);
        let settle = budget.reserve(60).unwrap();
        let refused = budget.reserve(41).err().unwrap();
        assert_eq!(refused.remaining, 40);
        assert!(refused.retry_after >= 1);
        settle(10);
        assert_eq!(budget.remaining().0, 90);
        // Never settled: spent whole.
        drop(budget.reserve(50).unwrap());
        assert_eq!(budget.remaining().0, 40);
        budget.charge(1000);
        assert_eq!(budget.remaining().0, 0);
        assert!(budget.reserve(1).is_err());
    }

    #[test]
    fn a_stored_account_is_read_as_it_was_and_nothing_else_is() {
        let state =
            AccountState { full_at: 1, spent: Spent { since: 2, tokens: 3 }, spent_until: 4 };
        assert_eq!(AccountState::load(&state.store()), Some(state));
        assert_eq!(AccountState::load(&[]), None);
        assert_eq!(AccountState::load(&[2; STORED]), None);
        assert_eq!(AccountState::load(&state.store()[..20]), None);
    }
}
