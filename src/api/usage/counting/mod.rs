//! Counting of requests: the layer that counts, the journal that survives a kill, and the flush to the database.

pub mod flush;
pub mod journal;
pub mod meter;
pub mod record;
