//! Usage: how many requests each project made, counted at the edge, in memory, and added to the
//! database once a second. Counted are authenticated requests, once each, when the answer's head is
//! ready; not counted are 401, 429, 5xx, OPTIONS and whatever needs no credential.

pub mod counters;
pub mod flush;
pub mod handlers;
pub mod model;
pub mod record;
pub mod repo;
