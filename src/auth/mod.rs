//! Who is calling, and what they may do: from a bearer secret to a [`Caller`](crate::base::caller::Caller),
//! and from a caller to a [`Tenant`](crate::base::tenant::Tenant).

pub mod bearer;
pub mod gate;
pub mod grant;
pub mod limits;
pub mod password;
