//! Usage: how many requests each project made. Counted at the edge in a [`journal`] that outlives the process, and
//! written to the database once a second ([`flush`], [`ledger`]), where a month becomes final a day after its end
//! ([`close`]). Counted are authenticated requests, once each, when the answer's head is ready; not counted are 401,
//! 429, 5xx, OPTIONS and whatever needs no credential.

pub mod breakdown;
pub mod close;
pub mod figures;
pub mod flush;
pub mod handlers;
pub mod journal;
pub mod ledger;
pub mod meter;
pub mod model;
pub mod quota;
pub mod record;
pub mod repo;
