//! Counting of requests. The layer ([`record`]) counts each in memory and in a file that survives a kill ([`meter`],
//! [`journal`]). A worker writes the counts to the database once a second ([`flush`]).

pub mod flush;
pub mod journal;
pub mod meter;
pub mod record;
