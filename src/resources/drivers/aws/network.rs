//! Networks: a VPC with one subnet that covers all of its addresses.
//!
//! The VPC is the resource's object. Its subnet is looked up whenever it is needed, and created if it is missing, so a
//! creation that was interrupted between the two needs no repair. The subnet cannot exist twice, because its addresses
//! can be assigned only once.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    Aws,
    client::form::Form,
    ignore_not_found, not_found,
    responses::{CreateSubnet, CreateVpc, DescribeSubnets, DescribeVpcs, Subnet, Vpc},
    settings::is_id,
    tags,
};
use crate::resources::{
    drivers::driver::{DriverError, DriverErrorKind, ListQuery, Object, ObjectPage, ObjectState, Order, Result},
    kinds::spec::{NetworkSpec, Spec},
};

impl Aws {
    pub(super) async fn create_network(&self, order: &Order, spec: &NetworkSpec) -> Result<Object> {
        let tags = self.tags(order);
        let form = Form::new("CreateVpc").with("CidrBlock", spec.cidr).with_tags_on_create("vpc", &tags);
        let vpc = self.ec2.call::<CreateVpc>(form).await?.vpc;
        let subnet = match self.subnet_of(&vpc, &tags).await {
            Ok(subnet) => Some(subnet),
            // A new VPC is not immediately visible in all of EC2. The first caller that needs the subnet creates it.
            Err(DriverError { kind: DriverErrorKind::NotFound | DriverErrorKind::Conflict, .. }) => None,
            Err(error) => return Err(error),
        };
        network(&vpc, subnet.as_ref())
    }

    pub(super) async fn read_network(&self, reference: &str) -> Result<Option<Object>> {
        let Some(vpc) = self.vpc(reference).await? else { return Ok(None) };
        let subnets = self.subnets(&[reference]).await?;
        network(&vpc, self.select_subnet(&subnets).await?).map(Some)
    }

    pub(super) async fn update_network(&self, reference: &str, order: &Order, spec: &NetworkSpec) -> Result<()> {
        let vpc = self.vpc(reference).await?.ok_or_else(|| not_found(reference))?;
        if vpc.cidr_block != spec.cidr.to_string() {
            let message = format!("the addresses of {reference} are {} and cannot be changed", vpc.cidr_block);
            return Err(DriverError::new(DriverErrorKind::Invalid, "cannot_change_cidr", message));
        }
        let tags = self.tags(order);
        self.retag(reference, &vpc.tag_set, &tags).await?;
        let subnet = self.subnet_of(&vpc, &tags).await?;
        self.retag(&subnet.subnet_id, &subnet.tag_set, &tags).await
    }

    /// Deletes this provider's subnets, then the VPC, after checking that no instance is in it. AWS would also reject
    /// the deletion, but not name the instance.
    pub(super) async fn delete_network(&self, reference: &str) -> Result<()> {
        if self.vpc(reference).await?.is_none() {
            return Ok(());
        }
        if let Some(user) = self.instance_in(reference).await? {
            let message = format!("{reference} is still used by {user}");
            return Err(DriverError::new(DriverErrorKind::Conflict, "DependencyViolation", message));
        }
        for subnet in self.subnets(&[reference]).await? {
            if tags::is_ours(&subnet.tag_set) {
                let form = Form::new("DeleteSubnet").with("SubnetId", subnet.subnet_id);
                ignore_not_found(self.ec2.send(form).await)?;
            }
        }
        ignore_not_found(self.ec2.send(Form::new("DeleteVpc").with("VpcId", reference)).await)
    }

    pub(super) async fn list_networks(&self, form: Form, query: &ListQuery) -> Result<ObjectPage> {
        let page: DescribeVpcs = self.ec2.call(form).await?;
        let vpcs: Vec<_> = page.vpc_set.into_iter().filter(|vpc| tags::matches_query(&vpc.tag_set, query)).collect();
        let ids: Vec<_> = vpcs.iter().map(|vpc| vpc.vpc_id.as_str()).collect();
        let mut subnets: BTreeMap<String, Vec<Subnet>> = BTreeMap::new();
        for subnet in self.subnets(&ids).await? {
            subnets.entry(subnet.vpc_id.clone()).or_default().push(subnet);
        }
        let mut objects = Vec::new();
        for vpc in &vpcs {
            let subnets = subnets.get(&vpc.vpc_id).map_or(&[][..], Vec::as_slice);
            // A VPC without IPv4 addresses cannot be expressed as a spec.
            objects.extend(network(vpc, self.select_subnet(subnets).await?));
        }
        Ok(ObjectPage { objects, next: Some(page.next_token).filter(|token| !token.is_empty()) })
    }

    /// Finds or creates the subnet for an instance in this network.
    pub(super) async fn subnet_in(&self, reference: &str) -> Result<String> {
        if !is_id("vpc-", reference) {
            return Err(not_found(reference));
        }
        let subnets = self.subnets(&[reference]).await?;
        if let Some(subnet) = self.select_subnet(&subnets).await? {
            return Ok(subnet.subnet_id.clone());
        }
        let vpc = self.vpc(reference).await?.ok_or_else(|| not_found(reference))?;
        // Tags that AWS itself has set cannot be copied.
        let tags = vpc.tag_set.0.iter().filter(|(key, _)| !key.starts_with("aws:"));
        let tags = tags.map(|(key, value)| (key.clone(), value.clone())).collect();
        self.subnet_of(&vpc, &tags).await.map(|subnet| subnet.subnet_id)
    }

    async fn vpc(&self, reference: &str) -> Result<Option<Vpc>> {
        if !is_id("vpc-", reference) {
            return Ok(None);
        }
        match self.ec2.call::<DescribeVpcs>(Form::new("DescribeVpcs").with("VpcId.1", reference)).await {
            Ok(found) => Ok(found.vpc_set.into_iter().next()),
            Err(DriverError { kind: DriverErrorKind::NotFound, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists all subnets of these VPCs.
    async fn subnets(&self, vpcs: &[&str]) -> Result<Vec<Subnet>> {
        let mut subnets = Vec::new();
        let mut token = None;
        while !vpcs.is_empty() {
            let form = Form::new("DescribeSubnets").with_filter("vpc-id", vpcs).with_some("NextToken", token);
            let page: DescribeSubnets = self.ec2.call(form).await?;
            subnets.extend(page.subnet_set);
            token = Some(page.next_token).filter(|token| !token.is_empty());
            if token.is_none() {
                break;
            }
        }
        Ok(subnets)
    }

    /// Selects the subnet to use: in the provider's zone, and always the same of several.
    async fn select_subnet<'a>(&self, subnets: &'a [Subnet]) -> Result<Option<&'a Subnet>> {
        if subnets.is_empty() {
            return Ok(None);
        }
        let zone = self.zone().await?;
        let here = subnets.iter().filter(|subnet| subnet.availability_zone == zone);
        Ok(here.min_by_key(|subnet| (!tags::is_ours(&subnet.tag_set), &subnet.subnet_id)))
    }

    /// Finds or creates the subnet of a VPC.
    async fn subnet_of(&self, vpc: &Vpc, tags: &BTreeMap<String, String>) -> Result<Subnet> {
        let zone = self.zone().await?;
        if let Some(subnet) = self.find_subnet(&vpc.vpc_id).await? {
            return Ok(subnet);
        }
        let form = Form::new("CreateSubnet")
            .with("VpcId", &vpc.vpc_id)
            .with("CidrBlock", &vpc.cidr_block)
            .with("AvailabilityZone", zone)
            .with_tags_on_create("subnet", tags);
        match self.ec2.call::<CreateSubnet>(form).await {
            Ok(created) => Ok(created.subnet),
            // Another server has just created the subnet; otherwise a foreign subnet has the addresses, and the error
            // is correct.
            Err(error) if error.code == "InvalidSubnet.Conflict" => self.find_subnet(&vpc.vpc_id).await?.ok_or(error),
            Err(error) => Err(error),
        }
    }

    async fn find_subnet(&self, vpc: &str) -> Result<Option<Subnet>> {
        let mut subnets = self.subnets(&[vpc]).await?;
        let best = self.select_subnet(&subnets).await?.map(|best| best.subnet_id.clone());
        let at = subnets.iter().position(|subnet| Some(&subnet.subnet_id) == best.as_ref());
        Ok(at.map(|at| subnets.swap_remove(at)))
    }
}

fn network(vpc: &Vpc, subnet: Option<&Subnet>) -> Result<Object> {
    let unreadable =
        |_| DriverError::new(DriverErrorKind::Invalid, "no_cidr", format!("{} has no IPv4 network", vpc.vpc_id));
    let mut outputs: Map<String, Value> = Map::new();
    if let Some(subnet) = subnet {
        outputs.insert("subnet_id".into(), json!(subnet.subnet_id));
        outputs.insert("availability_zone".into(), json!(subnet.availability_zone));
    }
    Ok(Object {
        reference: vpc.vpc_id.clone(),
        tags: tags::owner(&vpc.tag_set),
        state: if vpc.state == "pending" { ObjectState::Busy } else { ObjectState::Ready },
        power: None,
        spec: Spec::Network(NetworkSpec { cidr: vpc.cidr_block.parse().map_err(unreadable)? }),
        outputs,
        reason: None,
    })
}
