//! Workers that read the state of the whole deployment.

pub(crate) mod pulse;
pub(crate) mod queue_depth;
