//! Who is calling, and what they may do: from a bearer secret to a [`Caller`](crate::base::caller::Caller),
//! and from a caller to a [`Tenant`](crate::base::tenant::Tenant).

pub mod argon;
pub mod attempts;
pub mod bearer;
pub mod cores;
pub mod gate;
pub mod grant;
pub mod limits;
pub mod password;
pub mod password_rules;
