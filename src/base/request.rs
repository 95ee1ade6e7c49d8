//! What is known about the HTTP request being served, gathered along its way.

use std::{net::IpAddr, sync::OnceLock};

use super::{
    caller::Caller,
    id::{ProjectId, RequestId},
};

/// One request: made at the edge, filled in on the way in, read on the way out.
#[derive(Debug)]
pub struct RequestContext {
    /// Its id, in `X-Request-Id`, in each problem and in each log line about it.
    pub id: RequestId,
    /// The client's address, where there is one: the peer's, or what a trusted proxy says.
    pub client: Option<IpAddr>,
    /// The route's template, such as `/v1/keys/{key_id}`, once a route was found.
    pub route: OnceLock<&'static str>,
    /// Who is calling, once that is established.
    pub caller: OnceLock<Caller>,
    /// The project the request turned out to be about: for a session, the one it names.
    pub project: OnceLock<ProjectId>,
}

impl RequestContext {
    /// A request of which nothing is known yet.
    pub fn new(client: Option<IpAddr>) -> Self {
        Self { id: RequestId::new(), client, route: OnceLock::new(), caller: OnceLock::new(), project: OnceLock::new() }
    }
}
