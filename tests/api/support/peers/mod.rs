//! What else talks to a server: a webhook receiver, a scraper, and a cloud provider.

pub mod moto;
pub mod prometheus;
pub mod receiver;
