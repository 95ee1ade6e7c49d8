//! Bridge networks with their own address ranges.

use bollard::{
    models::{Ipam, IpamConfig, Network, NetworkCreateRequest, NetworkInspect},
    query_parameters::{InspectNetworkOptions, ListNetworksOptionsBuilder},
};
use serde_json::{Map, json};

use super::{
    Docker,
    failure::{self, disappeared, driver_error, foreign, none_if_missing, status},
    labels, page_of,
};
use crate::{
    base::input::net::Cidr,
    resources::{
        drivers::driver::{DriverErrorKind, ListQuery, Object, ObjectPage, ObjectState, Order, OwnerFilter, Result},
        kinds::{
            Kind,
            spec::{NetworkSpec, Spec},
        },
    },
};

/// Name of the engine's default network.
const DEFAULT_NETWORK: &str = "bridge";

/// Network as returned by either API call.
struct NetworkInfo {
    id: String,
    name: String,
    labels: labels::Labels,
    ipam: Option<Ipam>,
}

impl Docker {
    pub(super) async fn create_network(&self, order: &Order, spec: &NetworkSpec) -> Result<Object> {
        let name = labels::name(&order.tags);
        let addresses = IpamConfig { subnet: Some(spec.cidr.to_string()), ..IpamConfig::default() };
        let request = NetworkCreateRequest {
            name: name.clone(),
            driver: Some("bridge".into()),
            ipam: Some(Ipam { config: Some(vec![addresses]), ..Ipam::default() }),
            labels: Some(labels::for_object(&self.name, order)),
            ..NetworkCreateRequest::default()
        };
        match self.engine().await?.create_network(request).await.map_err(driver_error) {
            Ok(created) => self.read_network(&created.id).await?.ok_or_else(|| disappeared(&name)),
            // A network with this name or these addresses exists, possibly from an earlier call.
            Err(error) if error.kind == DriverErrorKind::Conflict => {
                let tags = order.tags;
                let of = OwnerFilter::Resource(tags.resource);
                let query = ListQuery { kind: Kind::Network, deployment: tags.deployment, owner: of, cursor: None };
                let found = self.list_networks(&query).await?.objects.into_iter().next();
                found.ok_or(if error.code == failure::CONFLICT { foreign(&name) } else { error })
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn read_network(&self, reference: &str) -> Result<Option<Object>> {
        let answer = self.engine().await?.inspect_network(reference, None::<InspectNetworkOptions>).await;
        Ok(none_if_missing(answer)?.and_then(|network| object(network.into())))
    }

    pub(super) async fn delete_network(&self, reference: &str) -> Result<()> {
        match self.engine().await?.remove_network(reference).await {
            Err(error) if status(&error) != Some(404) => Err(driver_error(error)),
            _ => Ok(()),
        }
    }

    pub(super) async fn list_networks(&self, query: &ListQuery) -> Result<ObjectPage> {
        let options = ListNetworksOptionsBuilder::new().filters(&labels::filters(&self.name, query)).build();
        let networks = self.engine().await?.list_networks(Some(options)).await.map_err(driver_error)?;
        let networks = networks.into_iter().map(NetworkInfo::from);
        let networks =
            networks.filter(|network| network.name != DEFAULT_NETWORK && labels::matches_query(query, &network.labels));
        let objects = networks.filter_map(object).map(|object| (object.reference.clone(), object)).collect();
        let (page, next) = page_of(query, objects);
        Ok(ObjectPage { objects: page.into_iter().map(|(_, object)| object).collect(), next })
    }
}

/// Translates a network; `None` if it has no IPv4 addresses, such as the host's.
fn object(network: NetworkInfo) -> Option<Object> {
    let mut configs = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default().into_iter();
    let (cidr, gateway) = configs.find_map(|config| {
        let cidr: Cidr = config.subnet.filter(|subnet| !subnet.contains(':'))?.parse().ok()?;
        Some((cidr, config.gateway))
    })?;
    let outputs = [("name", Some(network.name)), ("gateway", gateway)];
    let outputs = outputs.into_iter().filter_map(|(key, value)| Some((key.to_owned(), json!(value?))));
    Some(Object {
        reference: network.id,
        tags: labels::tags(&network.labels),
        state: ObjectState::Ready,
        power: None,
        spec: Spec::Network(NetworkSpec { cidr }),
        outputs: Map::from_iter(outputs),
        reason: None,
    })
}

impl From<Network> for NetworkInfo {
    fn from(network: Network) -> Self {
        let Network { id, name, labels, ipam, .. } = network;
        Self { id: id.unwrap_or_default(), name: name.unwrap_or_default(), labels: labels.unwrap_or_default(), ipam }
    }
}

impl From<NetworkInspect> for NetworkInfo {
    fn from(network: NetworkInspect) -> Self {
        let NetworkInspect { id, name, labels, ipam, .. } = network;
        Self { id: id.unwrap_or_default(), name: name.unwrap_or_default(), labels: labels.unwrap_or_default(), ipam }
    }
}
