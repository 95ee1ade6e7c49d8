//! Settings of an AWS provider. They contain no secrets, see [`super::client::credentials`].

use std::{collections::BTreeMap, net::IpAddr};

use serde::Deserialize;
use url::{Host, Url};

/// Account and region at AWS.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RawSettings")]
pub struct AwsSettings {
    /// Region.
    pub region: String,
    /// URL of the API.
    pub endpoint: Url,
    /// Profile in the shared credentials file. Without one, the environment takes precedence.
    pub profile: Option<String>,
    /// Availability zone of all objects. Default: the region's first one.
    pub availability_zone: Option<String>,
    /// Subnet of instances that name no network. Default: one of the default VPC.
    pub subnet: Option<String>,
    images: BTreeMap<String, String>,
    sizes: BTreeMap<String, String>,
}

/// Settings as written in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSettings {
    region: String,
    endpoint: Option<String>,
    profile: Option<String>,
    availability_zone: Option<String>,
    subnet: Option<String>,
    #[serde(default)]
    images: BTreeMap<String, String>,
    #[serde(default)]
    sizes: BTreeMap<String, String>,
}

/// Default sizes, which every region supports. The configuration can add to them and override them.
const SIZES: [(&str, &str); 4] =
    [("small", "t3.small"), ("medium", "t3.medium"), ("large", "t3.large"), ("xlarge", "t3.xlarge")];

impl AwsSettings {
    /// Instance type for a size name, which may be an instance type.
    pub fn instance_type<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.sizes.get(name).map(String::as_str).or_else(|| is_instance_type(name).then_some(name))
    }

    /// Image for an image name, which may be an AMI id.
    pub fn image<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.images.get(name).map(String::as_str).or_else(|| is_id("ami-", name).then_some(name))
    }

    /// Size name for an instance type: the requested name if it still stands for that type, else a configured name,
    /// else AWS's own.
    pub fn size_of(&self, instance_type: &str, requested: Option<&str>) -> String {
        let valid = requested.filter(|requested| self.instance_type(requested) == Some(instance_type));
        valid.unwrap_or_else(|| name_for(&self.sizes, instance_type)).to_owned()
    }

    /// Image name for an AMI: the requested name, because an instance's image never changes even if the configuration
    /// does.
    pub fn image_of(&self, image: &str, requested: Option<&str>) -> String {
        requested.unwrap_or_else(|| name_for(&self.images, image)).to_owned()
    }

    /// Configured size names.
    pub fn sizes(&self) -> Vec<String> {
        self.sizes.keys().cloned().collect()
    }

    /// Configured image names.
    pub fn images(&self) -> Vec<String> {
        self.images.keys().cloned().collect()
    }
}

fn name_for<'a>(names: &'a BTreeMap<String, String>, value: &'a str) -> &'a str {
    names.iter().find(|(_, configured)| *configured == value).map_or(value, |(name, _)| name)
}

/// Whether a text has the form of an AWS id.
pub fn is_id(prefix: &str, text: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|rest| {
        matches!(rest.len(), 8..=17) && rest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

fn is_instance_type(text: &str) -> bool {
    let is_part =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'-'));
    text.split_once('.').is_some_and(|(family, size)| is_part(family) && is_part(size))
}

impl TryFrom<RawSettings> for AwsSettings {
    type Error = String;

    fn try_from(raw: RawSettings) -> Result<Self, String> {
        let RawSettings { region, endpoint, profile, availability_zone, subnet, images, sizes: overrides } = raw;
        // The region becomes part of a host name.
        if region.is_empty() || !region.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'-')) {
            return Err(format!("'{region}' cannot be a region of AWS; use a region like eu-central-1"));
        }
        let endpoint = match endpoint {
            Some(endpoint) => parse_endpoint(&endpoint)?,
            None => {
                let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
                let url = format!("https://ec2.{region}.{domain}/");
                url.parse()
                    .map_err(|_| format!("'{region}' cannot be a region of AWS; use a region like eu-central-1"))?
            }
        };
        if let Some((name, image)) = images.iter().find(|(_, image)| !is_id("ami-", image)) {
            return Err(format!("the image {name} is '{image}', which is no AMI; use an id that starts with ami-"));
        }
        let mut sizes: BTreeMap<_, _> = SIZES.map(|(name, size)| (name.to_owned(), size.to_owned())).into();
        sizes.extend(overrides);
        if let Some((name, size)) = sizes.iter().find(|(_, size)| !is_instance_type(size)) {
            return Err(format!("the size {name} is '{size}', which is no instance type; use a type like t3.small"));
        }
        if let Some(subnet) = subnet.as_ref().filter(|subnet| !is_id("subnet-", subnet)) {
            return Err(format!("'{subnet}' is no subnet; use an id that starts with subnet-"));
        }
        Ok(Self { region, endpoint, profile, availability_zone, subnet, images, sizes })
    }
}

/// Signed requests and session tokens can be read on an unencrypted connection.
fn parse_endpoint(endpoint: &str) -> Result<Url, String> {
    let endpoint: Url = endpoint.parse().map_err(|error| format!("the endpoint is not a URL: {error}"))?;
    let is_loopback = match endpoint.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    };
    let is_plain = endpoint.username().is_empty()
        && endpoint.password().is_none()
        && endpoint.query().is_none()
        && endpoint.fragment().is_none();
    match endpoint.scheme() {
        "https" | "http" if !is_plain => {
            Err("the endpoint must be a URL without credentials, query and fragment".into())
        }
        "https" => Ok(endpoint),
        "http" if is_loopback => Ok(endpoint),
        "http" => Err(format!("the endpoint {endpoint} must be https; http is allowed only on the same machine")),
        _ => Err(format!("the endpoint {endpoint} must be an https URL")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<AwsSettings, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.message().to_owned())
    }

    #[test]
    fn region_is_enough_and_errors_name_the_problem() {
        let settings = parse("region = 'eu-central-1'").unwrap();
        assert_eq!(settings.endpoint.as_str(), "https://ec2.eu-central-1.amazonaws.com/");
        assert_eq!(
            parse("region = 'cn-north-1'").unwrap().endpoint.host_str(),
            Some("ec2.cn-north-1.amazonaws.com.cn")
        );
        assert_eq!(settings.sizes(), ["large", "medium", "small", "xlarge"]);
        let error = |text: &str| parse(&format!("region = 'eu-central-1'\n{text}")).unwrap_err();
        assert!(parse("").unwrap_err().contains("region"));
        assert!(parse("region = 'evil.example/'").unwrap_err().contains("cannot be a region"));
        assert!(error("secret_access_key = 'x'").contains("unknown field `secret_access_key`"));
        assert!(error("images = { debian-12 = 'debian' }").contains("no AMI"));
        assert!(error("sizes = { small = 'little' }").contains("no instance type"));
        assert!(error("subnet = 'vpc-12345678'").contains("no subnet"));
        assert!(error("endpoint = 'http://cloud.example/'").contains("must be https"));
        assert!(error("endpoint = 'https://key:secret@cloud.example/'").contains("without credentials"));
        for endpoint in ["http://127.0.0.1:5000", "http://[::1]:5000", "http://localhost:5000", "https://cloud.example"]
        {
            assert!(parse(&format!("region = 'r'\nendpoint = '{endpoint}'")).is_ok(), "{endpoint}");
        }
    }

    #[test]
    fn names_map_to_the_configuration_and_aws_terms_to_themselves() {
        let settings = parse(
            "region = 'r'\nimages = { debian-12 = 'ami-12345678' }\nsizes = { small = 't3a.small', tiny = 't3a.small' }",
        )
        .unwrap();
        assert_eq!(settings.instance_type("small"), Some("t3a.small"));
        assert_eq!(settings.instance_type("medium"), Some("t3.medium"));
        assert_eq!(settings.instance_type("u-6tb1.56xlarge"), Some("u-6tb1.56xlarge"));
        assert_eq!(settings.instance_type("huge"), None);
        assert_eq!(settings.image("debian-12"), Some("ami-12345678"));
        assert_eq!(settings.image("ami-0abcdef1234567890"), Some("ami-0abcdef1234567890"));
        assert_eq!(settings.image("debian-13"), None);

        assert_eq!(settings.size_of("t3a.small", Some("tiny")), "tiny");
        assert_eq!(settings.size_of("t3a.small", Some("t3a.small")), "t3a.small");
        assert_eq!(settings.size_of("t3a.small", None), "small");
        // It was changed outside this server, or the name now stands for another type.
        assert_eq!(settings.size_of("t3.small", Some("small")), "t3.small");
        assert_eq!(settings.image_of("ami-12345678", None), "debian-12");
        assert_eq!(settings.image_of("ami-00000000", Some("debian-12")), "debian-12");
    }
}
