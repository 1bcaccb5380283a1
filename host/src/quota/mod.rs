//! What a caller may take: requests in a time, and tokens in a period.
//!
//! Owns the two rules and the account that each caller has with each plugin. It never writes to disk on
//! the way of a request: accounts are kept in memory and written behind, so a crash may forget the last
//! [`ledger::FLUSH_EVERY`], and a restart forgets nothing. The danger that shaped it: a limit that everyone
//! gets around by waiting for the next deployment.
//!
//! | file | owns |
//! |---|---|
//! | `rate` | the rule for requests, as a pure function |
//! | `budget` | the rule for tokens, and what a plugin sees of it |
//! | `ledger` | the accounts: memory, storage, writing behind |

mod budget;
mod ledger;
pub(crate) mod rate;

pub use budget::{Budget, Exhausted};
pub use ledger::{Account, FLUSH_EVERY, Ledger, LedgerError};
pub use rate::Standing;
