//! Driver for Amazon Web Services: EC2 instances, EBS volumes, and VPCs with one subnet each, in one zone of one region
//! (docs/drivers.md). It uses the Query API without an SDK, which would be most of the server's size.

mod client;
mod instance;
mod network;
mod responses;
mod settings;
mod tags;
mod volume;

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::resources::{
    drivers::driver::{
        Action, ActionType, BoxFuture, Capabilities, Driver, DriverError, DriverErrorKind, KindCapabilities, ListQuery,
        Object, ObjectPage, Order, Result, Unsupported,
    },
    kinds::{Kind, spec::Spec},
};
pub use client::credentials::{Environment, process_environment};
use client::{Ec2, form::Form};
use responses::DescribeAvailabilityZones;
pub use settings::AwsSettings;

/// Maximum number of objects on a page.
const PAGE: u32 = 100;

/// Account and region at AWS.
#[derive(Debug)]
pub struct Aws {
    name: String,
    settings: AwsSettings,
    ec2: Ec2,
    zone: OnceCell<String>,
    capabilities: Capabilities,
}

impl Aws {
    /// Creates the provider of this name, with credentials that are found through `environment`.
    pub fn new(name: String, settings: AwsSettings, environment: Arc<Environment>) -> Self {
        let ec2 = Ec2::new(&settings, environment);
        let capabilities = capabilities(&settings);
        Self { name, settings, ec2, zone: OnceCell::new(), capabilities }
    }

    /// Zone of all objects: a volume can only be attached in its own zone.
    async fn zone(&self) -> Result<&str> {
        let find = async || {
            if let Some(zone) = &self.settings.availability_zone {
                return Ok(zone.clone());
            }
            if let Some(subnet) = &self.settings.subnet {
                let form = Form::new("DescribeSubnets").with("SubnetId.1", subnet);
                let found: responses::DescribeSubnets = self.ec2.call(form).await?;
                let subnet = found.subnet_set.into_iter().next().ok_or_else(|| not_found(subnet))?;
                return Ok(subnet.availability_zone);
            }
            let form = Form::new("DescribeAvailabilityZones").with_filter("zone-type", ["availability-zone"]);
            let found: DescribeAvailabilityZones = self.ec2.call(form).await?;
            // The choice must be stable, even if the zone later becomes impaired.
            found.availability_zone_info.into_iter().map(|zone| zone.zone_name).min().ok_or_else(|| {
                DriverError::new(
                    DriverErrorKind::Invalid,
                    "no_zone",
                    format!("the region {} has no availability zone", self.settings.region),
                )
            })
        };
        self.zone.get_or_try_init(find).await.map(String::as_str)
    }
}

impl Driver for Aws {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn validate(&self, spec: &Spec) -> Vec<Unsupported> {
        let Spec::Instance(spec) = spec else { return Vec::new() };
        let unknown = |member, given: &str, names: Vec<String>, example| {
            let names = if names.is_empty() { String::new() } else { format!("one of {}, or ", names.join(", ")) };
            Unsupported { member, detail: format!("unknown {member} '{given}'; use {names}{example}") }
        };
        let size =
            self.settings.instance_type(&spec.size).is_none().then(|| {
                unknown("size", &spec.size, self.settings.sizes(), "an instance type of EC2's, such as t3.micro")
            });
        let image = self.settings.image(&spec.image).is_none().then(|| {
            unknown("image", &spec.image, self.settings.images(), "the id of an AMI, such as ami-0abcdef1234567890")
        });
        size.into_iter().chain(image).collect()
    }

    fn create<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Object>> {
        Box::pin(async move {
            match &order.spec {
                Spec::Network(spec) => self.create_network(order, spec).await,
                Spec::Volume(spec) => self.create_volume(order, spec).await,
                Spec::Instance(spec) => self.create_instance(order, spec).await,
            }
        })
    }

    fn read<'a>(&'a self, kind: Kind, reference: &'a str) -> BoxFuture<'a, Result<Option<Object>>> {
        Box::pin(async move {
            match kind {
                Kind::Network => self.read_network(reference).await,
                Kind::Volume => self.read_volume(reference).await,
                Kind::Instance => self.read_instance(reference).await,
            }
        })
    }

    fn update<'a>(&'a self, reference: &'a str, order: &'a Order) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            match &order.spec {
                Spec::Network(spec) => self.update_network(reference, order, spec).await,
                Spec::Volume(spec) => self.update_volume(reference, order, spec).await,
                Spec::Instance(spec) => self.update_instance(reference, order, spec).await,
            }
        })
    }

    fn action<'a>(&'a self, kind: Kind, reference: &'a str, action: Action) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            match kind {
                Kind::Instance => self.act(reference, action).await,
                Kind::Network | Kind::Volume => Err(DriverError::new(
                    DriverErrorKind::Invalid,
                    "no_power",
                    format!("{kind} cannot be turned on or off"),
                )),
            }
        })
    }

    fn delete<'a>(&'a self, kind: Kind, reference: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            match kind {
                Kind::Network => self.delete_network(reference).await,
                Kind::Volume => self.delete_volume(reference).await,
                Kind::Instance => self.delete_instance(reference).await,
            }
        })
    }

    fn list_owned<'a>(&'a self, query: &'a ListQuery) -> BoxFuture<'a, Result<ObjectPage>> {
        Box::pin(async move {
            let paged = |action| {
                let form = Form::new(action).with("MaxResults", PAGE).with_some("NextToken", query.cursor.as_ref());
                self.with_owner_filter(form, query)
            };
            match query.kind {
                Kind::Network => self.list_networks(paged("DescribeVpcs"), query).await,
                Kind::Volume => self.list_volumes(paged("DescribeVolumes"), query).await,
                Kind::Instance => self.list_instances(paged("DescribeInstances"), query).await,
            }
        })
    }
}

fn capabilities(settings: &AwsSettings) -> Capabilities {
    use ActionType as A;
    let kind = |kind, actions: &[ActionType], updatable: &[&'static str]| {
        let is_instance = kind == Kind::Instance;
        KindCapabilities {
            kind,
            actions: actions.to_vec(),
            updatable: updatable.to_vec(),
            sizes: if is_instance { settings.sizes() } else { Vec::new() },
            images: if is_instance { settings.images() } else { Vec::new() },
            native_terms: is_instance,
        }
    };
    Capabilities {
        simulated: false,
        import: true,
        kinds: vec![
            kind(Kind::Network, &[], &[]),
            kind(Kind::Volume, &[A::Resize], &["size_gib"]),
            kind(
                Kind::Instance,
                &[A::Start, A::Stop, A::Reboot, A::Attach, A::Detach, A::Resize],
                &["size", "volumes"],
            ),
        ],
    }
}

fn not_found(reference: &str) -> DriverError {
    DriverError::new(DriverErrorKind::NotFound, "not_found", format!("{reference} does not exist"))
}

/// Ignores the error that an object to delete does not exist.
fn ignore_not_found(deleted: Result<()>) -> Result<()> {
    match deleted {
        Err(DriverError { kind: DriverErrorKind::NotFound, .. }) => Ok(()),
        deleted => deleted,
    }
}
