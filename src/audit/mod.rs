//! The audit trail: evidence of what was done here, and not a log of it (docs/audit.md).
//!
//! What is always true:
//!
//! - A write that is committed has staged exactly one entry, in its own transaction; one that is not, none. The transaction type
//!   takes care of that: a write cannot be committed without its change.
//! - Only the sealer gives an entry its place. Within a project's chain the numbers begin at 1 and have no gap, and each
//!   entry's hash covers all that came before it. What belongs to no project is in the deployment's chain.
//! - Ids increase in the order in which entries become visible, over all chains. So who has read up to an id has missed
//!   nothing, and what was read once never changes; lists, exports, events and webhooks read sealed entries alone.
//! - What was committed is sealed, by whichever server is up, within a fifth of a second when there is little to do.
//! - An entry holds no secret, and nothing that a secret could be found from. [`model::Audited`] marks what it may show.
//!
//! [`model`] says what an entry says, [`chain`] how entries hang together, [`checkpoint`] how the end of a chain is
//! signed, [`link`] puts these together without a database, and [`sealer`] does it in one. [`tally`] adds up what was
//! refused, so that a flood of refusals is a few entries; [`reads`] does so with reads of the trail itself.
//!
//! [`trail`] reads it, [`export`] writes it out whole, [`line`] says how, and [`verify`] checks that with nothing else at
//! hand. [`retention`] removes what is too old. What is redacted is deleted by the sealer, with the entry that tells of it.

pub mod chain;
pub mod checkpoint;
pub mod csv;
pub mod export;
pub mod figures;
pub mod handlers;
pub mod line;
pub mod link;
pub mod model;
pub mod reads;
pub mod repo;
pub mod retention;
pub mod sealer;
pub mod stream;
pub mod tally;
pub mod trail;
pub mod trim;
pub mod verdict;
pub mod verify;
pub mod view;
