//! Pages of tokens, members and the account, and the invitation page.

mod account;
mod members;
mod tokens;
