//! `network.network`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spec::{KindSpec, SpecFault};
use crate::base::{identity::scope::Scope, input::net::Cidr};

/// Network with its own address range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// Address range: a private IPv4 network in CIDR notation, from /16 to /28.
    #[schemars(example = &"10.0.0.0/16")]
    pub cidr: Cidr,
}

impl<R> KindSpec<R> for NetworkSpec {
    type With<N> = Self;

    const NAME: &'static str = "network.network";
    const READ_SCOPE: Scope = Scope::NetworkRead;
    const WRITE_SCOPE: Scope = Scope::NetworkWrite;

    fn map_references<N>(&self, _: impl FnMut(&R) -> Option<N>) -> Option<Self> {
        Some(self.clone())
    }

    fn fault(&self) -> Option<SpecFault> {
        let is_valid =
            |network: ipnet::Ipv4Net| network.addr().is_private() && (16..=28).contains(&network.prefix_len());
        (!self.cidr.ipv4().is_some_and(is_valid)).then(|| SpecFault {
            member: "cidr",
            detail: "must be a private IPv4 network from /16 to /28, such as 10.0.0.0/16".into(),
        })
    }
}
