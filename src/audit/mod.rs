//! The audit trail: tamper-evident record of writes, sign-ins, denied requests and reads of the trail (docs/audit.md).
//!
//! Invariants:
//!
//! - A committed write has staged exactly one entry, in its own transaction. A write that is not committed has staged
//!   none. The transaction type enforces this: a write cannot be committed without its change.
//! - Only the sealer assigns an entry its number in a chain. The numbers of a project's chain begin at 1 and have no
//!   gaps, and each entry's hash covers all earlier entries. Entries that belong to no project are in the deployment's
//!   chain.
//! - IDs increase in the order in which entries become visible, over all chains. A reader that has read up to an ID has
//!   missed nothing, and entries that were read never change. Lists, exports, events and webhooks read sealed entries
//!   only.
//! - A committed entry is sealed by any running server, under light load within 200 ms.
//! - An entry contains no secrets, and nothing from which a secret could be derived. [`model::Audited`] marks the types
//!   that may appear in an entry.
//!
//! Modules that write the trail:
//!
//! - [`model`] defines the content of an entry, [`chain`] the hashes that link entries, and [`chain::checkpoint`] the
//!   signature on the end of a chain.
//! - [`chain::link`] links entries without a database. [`sealing`] applies it in the database.
//! - [`denial_counts`] aggregates denied requests, so that a flood of them becomes a few entries. [`read_counts`]
//!   aggregates reads of the trail.
//! - [`sealing::retention`] removes old entries. The sealer deletes the content of a redacted entry, together with the
//!   entry that records the redaction.
//!
//! Modules that read the trail:
//!
//! - [`trail`] queries entries, and [`view`] defines how clients see them. `api::audit_logs` serves them, and exports a
//!   whole trail; [`chain::line`] defines the format of its lines.
//! - [`verification`] verifies an export without a database.

pub mod chain;
pub mod denial_counts;
pub mod metrics;
pub mod model;
pub mod names;
pub mod read_counts;
pub mod repo;
pub mod sealing;
pub mod trail;
pub mod verification;
pub mod view;
