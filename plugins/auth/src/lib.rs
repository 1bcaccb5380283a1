//! Verifies callers: JSON Web Tokens of Clerk or any OpenID Connect issuer.
//!
//! Owns the policy of a house: this component answers `guesthouse:auth/verifier`, and serves `GET
//! /api/logged_in` to clients that want to know how they stand. What is decided is decided by pure functions
//! (`token`, `rules`, `keys`, `keyring`, `proof`, `policy`); this file connects them to the world. Settings
//! (`[plugins.auth.config]`):
//!
//! | setting | meaning |
//! |---|---|
//! | `jwt_key` | the public key in PEM; nothing is fetched then |
//! | `jwt_key_id` | its `kid`: tokens that name another are refused |
//! | `jwks_uri` | where the issuer publishes its keys; needs a `fetch` grant |
//! | `algorithms` | which may sign; default `RS256` |
//! | `authorized_parties` | `azp` must be one of these |
//! | `azp_may_be_absent` | `true`: a token without `azp` passes, as with Clerk's older SDKs |
//! | `audience` | `aud` must be one of these, if both are there |
//! | `issuer` | `iss` must be one of these; default: whoever has the key |
//! | `clock_skew` | seconds by which clocks may differ; default 5 |
//! | `publishable_key` | Clerk's: to tell this application's cookies from those of others |
//! | `cookie` | the session's cookie; default `__session` |
//! | `keys_grace` | seconds that fetched keys serve while the issuer is down; default 3600 |
//!
//! In development the house adds the key of its own issuer. A setting that is wrong lets nobody in, and the
//! log says which it is.

#[cfg(target_arch = "wasm32")]
mod issuer;
pub mod keyring;
pub mod keys;
pub mod policy;
pub mod proof;
pub mod rules;
pub mod token;

#[cfg(target_arch = "wasm32")]
mod component;
