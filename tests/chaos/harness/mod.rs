//! What a run is made of: clients, faults, receivers, and random numbers that a seed decides.

pub mod client;
pub mod faults;
pub mod http;
#[allow(dead_code, reason = "the driver's tests use more of it")]
#[path = "../../api/support/peers/moto.rs"]
pub mod moto;
pub mod random;
pub mod receiver;
pub mod run;
pub mod stream;
