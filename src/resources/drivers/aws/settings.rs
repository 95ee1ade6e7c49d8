//! What the operator's file says of an AWS provider. Never a secret: see [`super::credentials`].

use std::{collections::BTreeMap, net::IpAddr};

use serde::Deserialize;
use url::{Host, Url};

/// An account's part in a region.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Given")]
pub struct AwsSettings {
    /// Where.
    pub region: String,
    /// Where its API is.
    pub endpoint: Url,
    /// Whose credentials of the shared file are used; without one, those of the environment come first.
    pub profile: Option<String>,
    /// The zone of the region that everything is in; the first one, if none is named.
    pub availability_zone: Option<String>,
    /// The subnet of instances that name no network; one of the default network's, if none is named.
    pub subnet: Option<String>,
    images: BTreeMap<String, String>,
    sizes: BTreeMap<String, String>,
}

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
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

/// Sizes that every region has. The operator's file adds to them, and may say otherwise.
const SIZES: [(&str, &str); 4] =
    [("small", "t3.small"), ("medium", "t3.medium"), ("large", "t3.large"), ("xlarge", "t3.xlarge")];

impl AwsSettings {
    /// The instance type that `word` means, which may be one itself.
    pub fn instance_type<'a>(&'a self, word: &'a str) -> Option<&'a str> {
        self.sizes.get(word).map(String::as_str).or_else(|| is_instance_type(word).then_some(word))
    }

    /// The image that `word` means, which may be one itself.
    pub fn image<'a>(&'a self, word: &'a str) -> Option<&'a str> {
        self.images.get(word).map(String::as_str).or_else(|| is_id("ami-", word).then_some(word))
    }

    /// The word for an instance type: the one that was used, if it still means that type, else one of the operator's,
    /// else AWS's own.
    pub fn size_of(&self, instance_type: &str, used: Option<&str>) -> String {
        let still = used.filter(|used| self.instance_type(used) == Some(instance_type));
        still.unwrap_or_else(|| word_for(&self.sizes, instance_type)).to_owned()
    }

    /// The word for an image: the one that was used, since an instance's image never changes though words' meanings do.
    pub fn image_of(&self, image: &str, used: Option<&str>) -> String {
        used.unwrap_or_else(|| word_for(&self.images, image)).to_owned()
    }

    /// The words for sizes.
    pub fn sizes(&self) -> Vec<String> {
        self.sizes.keys().cloned().collect()
    }

    /// The words for images.
    pub fn images(&self) -> Vec<String> {
        self.images.keys().cloned().collect()
    }
}

fn word_for<'a>(words: &'a BTreeMap<String, String>, meant: &'a str) -> &'a str {
    words.iter().find(|(_, meaning)| *meaning == meant).map_or(meant, |(word, _)| word)
}

/// Whether a text has the form of an id of AWS's.
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

impl TryFrom<Given> for AwsSettings {
    type Error = String;

    fn try_from(given: Given) -> Result<Self, String> {
        let Given { region, endpoint, profile, availability_zone, subnet, images, sizes: own } = given;
        // It becomes a part of a host's name.
        if region.is_empty() || !region.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'-')) {
            return Err(format!("'{region}' cannot be a region of AWS; one is eu-central-1"));
        }
        let endpoint = match endpoint {
            Some(endpoint) => checked(&endpoint)?,
            None => {
                let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
                let url = format!("https://ec2.{region}.{domain}/");
                url.parse().map_err(|_| format!("'{region}' cannot be a region of AWS; one is eu-central-1"))?
            }
        };
        if let Some((word, image)) = images.iter().find(|(_, image)| !is_id("ami-", image)) {
            return Err(format!("the image {word} is '{image}', which is no AMI; one begins with ami-"));
        }
        let mut sizes: BTreeMap<_, _> = SIZES.map(|(word, size)| (word.to_owned(), size.to_owned())).into();
        sizes.extend(own);
        if let Some((word, size)) = sizes.iter().find(|(_, size)| !is_instance_type(size)) {
            return Err(format!("the size {word} is '{size}', which is no instance type; one is t3.small"));
        }
        if let Some(subnet) = subnet.as_ref().filter(|subnet| !is_id("subnet-", subnet)) {
            return Err(format!("'{subnet}' is no subnet; one begins with subnet-"));
        }
        Ok(Self { region, endpoint, profile, availability_zone, subnet, images, sizes })
    }
}

/// What is signed can be read by whoever sees it pass, and a session's token with it.
fn checked(endpoint: &str) -> Result<Url, String> {
    let endpoint: Url = endpoint.parse().map_err(|error| format!("the endpoint is no URL: {error}"))?;
    let is_here = match endpoint.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    };
    let is_bare = endpoint.username().is_empty()
        && endpoint.password().is_none()
        && endpoint.query().is_none()
        && endpoint.fragment().is_none();
    match endpoint.scheme() {
        "https" | "http" if !is_bare => Err("an endpoint is a URL without credentials, query and fragment".into()),
        "https" => Ok(endpoint),
        "http" if is_here => Ok(endpoint),
        "http" => Err(format!("the endpoint {endpoint} must be https; http is for this machine alone")),
        _ => Err(format!("the endpoint {endpoint} must be a https URL")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<AwsSettings, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.message().to_owned())
    }

    #[test]
    fn a_region_is_enough_and_what_is_wrong_is_said() {
        let settings = parse("region = 'eu-central-1'").unwrap();
        assert_eq!(settings.endpoint.as_str(), "https://ec2.eu-central-1.amazonaws.com/");
        assert_eq!(
            parse("region = 'cn-north-1'").unwrap().endpoint.host_str(),
            Some("ec2.cn-north-1.amazonaws.com.cn")
        );
        assert_eq!(settings.sizes(), ["large", "medium", "small", "xlarge"]);
        let told = |text: &str| parse(&format!("region = 'eu-central-1'\n{text}")).unwrap_err();
        assert!(parse("").unwrap_err().contains("region"));
        assert!(parse("region = 'evil.example/'").unwrap_err().contains("cannot be a region"));
        assert!(told("secret_access_key = 'x'").contains("unknown field `secret_access_key`"));
        assert!(told("images = { debian-12 = 'debian' }").contains("no AMI"));
        assert!(told("sizes = { small = 'little' }").contains("no instance type"));
        assert!(told("subnet = 'vpc-12345678'").contains("no subnet"));
        assert!(told("endpoint = 'http://cloud.example/'").contains("must be https"));
        assert!(told("endpoint = 'https://key:secret@cloud.example/'").contains("without credentials"));
        for endpoint in ["http://127.0.0.1:5000", "http://[::1]:5000", "http://localhost:5000", "https://cloud.example"]
        {
            assert!(parse(&format!("region = 'r'\nendpoint = '{endpoint}'")).is_ok(), "{endpoint}");
        }
    }

    #[test]
    fn words_mean_the_operators_terms_and_terms_of_aws_mean_themselves() {
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
        // It was changed behind our back, or the word means something else by now.
        assert_eq!(settings.size_of("t3.small", Some("small")), "t3.small");
        assert_eq!(settings.image_of("ami-12345678", None), "debian-12");
        assert_eq!(settings.image_of("ami-00000000", Some("debian-12")), "debian-12");
    }
}
