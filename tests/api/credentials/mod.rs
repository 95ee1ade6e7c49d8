//! Keys and tokens: their lookup, limits and revocation, and the search for leaked secrets.

mod introspection;
mod issuers;
mod keys;
mod limits;
mod lookup_floods;
mod other_server;
mod revocation;
mod secrets;
mod tokens;
