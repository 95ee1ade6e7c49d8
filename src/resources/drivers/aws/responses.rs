//! Responses of the EC2 API, reduced to the parts in use.

use std::collections::BTreeMap;

use serde::Deserialize;

/// List whose elements are named `item`.
#[derive(Debug, Deserialize)]
pub struct List<T> {
    #[serde(rename = "item", default = "Vec::new")]
    items: Vec<T>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { items: Vec::new() }
    }
}

impl<T> List<T> {
    /// Elements of the list.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter()
    }
}

impl<T> IntoIterator for List<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

/// Tag of an object.
#[derive(Debug, Deserialize)]
struct Tag {
    key: String,
    #[serde(default)]
    value: String,
}

/// Tags of an object.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "List<Tag>")]
pub struct TagSet(pub BTreeMap<String, String>);

impl From<List<Tag>> for TagSet {
    fn from(tags: List<Tag>) -> Self {
        Self(tags.into_iter().map(|tag| (tag.key, tag.value)).collect())
    }
}

impl TagSet {
    /// Value of a tag.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }
}

/// VPC.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Vpc {
    pub vpc_id: String,
    #[serde(default)]
    pub state: String,
    #[serde(default)]
    pub cidr_block: String,
    #[serde(default)]
    pub tag_set: TagSet,
}

#[derive(Debug, Deserialize)]
pub struct CreateVpc {
    pub vpc: Vpc,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeVpcs {
    #[serde(default)]
    pub vpc_set: List<Vpc>,
    #[serde(default)]
    pub next_token: String,
}

/// Subnet of a VPC, in one availability zone.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subnet {
    pub subnet_id: String,
    pub vpc_id: String,
    #[serde(default)]
    pub availability_zone: String,
    #[serde(default)]
    pub tag_set: TagSet,
}

#[derive(Debug, Deserialize)]
pub struct CreateSubnet {
    pub subnet: Subnet,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeSubnets {
    #[serde(default)]
    pub subnet_set: List<Subnet>,
    #[serde(default)]
    pub next_token: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Zone {
    pub zone_name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeAvailabilityZones {
    #[serde(default)]
    pub availability_zone_info: List<Zone>,
}

/// EBS volume. `CreateVolume` returns a single volume without a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    pub volume_id: String,
    #[serde(default)]
    pub status: String,
    pub size: u32,
    #[serde(default)]
    pub volume_type: String,
    #[serde(default)]
    pub availability_zone: String,
    #[serde(default)]
    pub attachment_set: List<VolumeAttachment>,
    #[serde(default)]
    pub tag_set: TagSet,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeAttachment {
    #[serde(default)]
    pub delete_on_termination: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeVolumes {
    #[serde(default)]
    pub volume_set: List<Volume>,
    #[serde(default)]
    pub next_token: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Modification {
    #[serde(default)]
    pub modification_state: String,
    #[serde(default)]
    pub target_size: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeVolumesModifications {
    #[serde(default)]
    pub volume_modification_set: List<Modification>,
}

/// EC2 instance.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    pub instance_id: String,
    pub image_id: String,
    pub instance_type: String,
    pub instance_state: InstanceState,
    #[serde(default)]
    pub state_reason: Option<StateReason>,
    #[serde(default)]
    pub placement: Placement,
    #[serde(default)]
    pub vpc_id: String,
    #[serde(default)]
    pub subnet_id: String,
    #[serde(default)]
    pub private_ip_address: String,
    /// Public address, if it has one.
    #[serde(default)]
    pub ip_address: String,
    #[serde(default)]
    pub root_device_name: String,
    #[serde(default)]
    pub block_device_mapping: List<Device>,
    #[serde(default)]
    pub tag_set: TagSet,
}

#[derive(Debug, Deserialize)]
pub struct InstanceState {
    pub name: String,
}

#[derive(Debug, Deserialize)]
pub struct StateReason {
    #[serde(default)]
    pub code: String,
    #[serde(default)]
    pub message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    #[serde(default)]
    pub availability_zone: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    pub device_name: String,
    #[serde(default)]
    pub ebs: Option<Ebs>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ebs {
    pub volume_id: String,
    #[serde(default)]
    pub status: String,
    #[serde(default)]
    pub delete_on_termination: bool,
}

/// `RunInstances` returns one reservation; `DescribeInstances` returns a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reservation {
    #[serde(default)]
    pub instances_set: List<Instance>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeInstances {
    #[serde(default)]
    pub reservation_set: List<Reservation>,
    #[serde(default)]
    pub next_token: String,
}

/// Error response.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ErrorResponse {
    errors: Errors,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Errors {
    #[serde(default)]
    error: Vec<ErrorDetail>,
}

/// Error in a response.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ErrorDetail {
    pub code: String,
    #[serde(default)]
    pub message: String,
}

impl ErrorResponse {
    /// First error of the response.
    pub fn first(self) -> Option<ErrorDetail> {
        self.errors.error.into_iter().next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_is_parsed_with_empty_and_missing_parts() {
        let text = r#"<?xml version="1.0" encoding="UTF-8"?>
            <DescribeVpcsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
              <requestId>1</requestId>
              <vpcSet>
                <item><vpcId>vpc-1</vpcId><state>available</state><cidrBlock>10.0.0.0/16</cidrBlock>
                  <tagSet><item><key>Name</key><value>a &amp; b</value></item><item><key>label:x</key><value/></item></tagSet>
                </item>
                <item><vpcId>vpc-2</vpcId><later><item>what we do not know</item></later><tagSet/></item>
              </vpcSet>
              <nextToken/>
            </DescribeVpcsResponse>"#;
        let read: DescribeVpcs = quick_xml::de::from_str(text).unwrap();
        let vpcs: Vec<_> = read.vpc_set.iter().collect();
        assert_eq!((vpcs.len(), read.next_token.as_str()), (2, ""));
        assert_eq!(vpcs[0].tag_set.get("Name"), Some("a & b"));
        assert_eq!(vpcs[0].tag_set.get("label:x"), Some(""));
        assert!(vpcs[1].tag_set.0.is_empty() && vpcs[1].state.is_empty());

        let empty: DescribeVpcs =
            quick_xml::de::from_str("<DescribeVpcsResponse><vpcSet/></DescribeVpcsResponse>").unwrap();
        assert_eq!(empty.vpc_set.iter().count(), 0);
        assert!(quick_xml::de::from_str::<CreateVpc>("<Response><Errors/></Response>").is_err());
    }
}
