//! Workers for the state of the whole deployment.

pub(crate) mod housekeeping;
pub(crate) mod pulse;
pub(crate) mod queue_depth;
