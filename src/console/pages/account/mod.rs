//! The account of the signed-in person: sessions and password.

mod device;
pub mod overview;
pub mod password;

/// Path of the account.
const PATH: &str = "/console/account";
