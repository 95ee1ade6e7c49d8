//! State at run time: the clock and periods, the context and trace of a request, the heartbeat of a worker, and the
//! server's lifecycle.

pub mod clock;
pub mod heartbeat;
pub mod lifecycle;
pub mod period;
pub mod request;
pub mod trace;
