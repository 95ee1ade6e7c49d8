//! HTTP below the routes: connections, requests of any kind, and headers.

mod browsers;
mod edge;
mod slow;
mod tls;
mod traces;
