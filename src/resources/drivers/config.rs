//! Configuration file of the providers (`CLOUDAPI_PROVIDERS`), in TOML:
//!
//! ```toml
//! [[provider]]
//! name = "eu"
//! driver = "sim"
//! ```
//!
//! The file contains no secrets: a driver finds its credentials where the provider's own tools find them.

use std::{fs, io, path::Path};

use serde::Deserialize;

use super::{aws::AwsSettings, docker::DockerSettings, sim::SimSettings};
use crate::base::id::ProjectId;

/// Contents of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    provider: Vec<ProviderSettings>,
}

/// Settings of one provider.
#[derive(Clone, Debug, Deserialize)]
pub struct ProviderSettings {
    /// Name, as clients write it.
    pub name: String,
    /// Projects that may import objects of the provider's account.
    #[serde(default)]
    pub import_projects: ImportProjects,
    /// Driver and its settings.
    #[serde(flatten)]
    pub driver: DriverSettings,
}

/// Projects that may import existing objects. Such a project can take over, change and delete every object of the
/// account that carries no deployment's tags, so by default none may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub enum ImportProjects {
    /// No project.
    #[default]
    None,
    /// The listed projects.
    Listed(Vec<ProjectId>),
    /// All projects: `["*"]`.
    All,
}

impl ImportProjects {
    /// Whether a project may import.
    pub fn contains(&self, project: ProjectId) -> bool {
        match self {
            Self::None => false,
            Self::Listed(projects) => projects.contains(&project),
            Self::All => true,
        }
    }
}

impl TryFrom<Vec<String>> for ImportProjects {
    type Error = String;

    fn try_from(texts: Vec<String>) -> Result<Self, String> {
        match texts.as_slice() {
            [] => return Ok(Self::None),
            [all] if all == "*" => return Ok(Self::All),
            _ => {}
        }
        let read = |text: &String| {
            text.parse().map_err(|_| {
                format!(
                    "import_projects: '{}' is not the id of a project; use ids like \"proj_8f2c4\", or [\"*\"] for all",
                    text.escape_debug()
                )
            })
        };
        texts.iter().map(read).collect::<Result<_, _>>().map(Self::Listed)
    }
}

/// Driver of a provider, with its settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "driver", rename_all = "lowercase")]
pub enum DriverSettings {
    /// Amazon Web Services.
    Aws(Box<AwsSettings>),
    /// Simulation.
    Sim(SimSettings),
    /// Docker engine.
    Docker(DockerSettings),
}

/// Error in the file of providers.
#[derive(Debug, thiserror::Error)]
pub enum ProvidersError {
    /// The file cannot be read.
    #[error("the file of providers cannot be read: {0}; set CLOUDAPI_PROVIDERS to a TOML file that this user can read")]
    Unreadable(#[from] io::Error),
    /// The contents are invalid.
    #[error("the file of providers is invalid: {0}")]
    Invalid(String),
    /// A name is invalid.
    #[error(
        "'{0}' cannot be a provider's name; use 1 to 63 lowercase letters, digits and hyphens, starting with a letter"
    )]
    InvalidName(String),
    /// Two providers have the same name.
    #[error("two providers have the name '{0}'; give each a unique name")]
    DuplicateName(String),
    /// The file contains no provider.
    #[error(
        "the file of providers contains none; add a [[provider]], or unset CLOUDAPI_PROVIDERS to use the simulated one"
    )]
    Empty,
}

/// Whether `name` is a valid provider name.
pub fn is_provider_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Default providers: the simulated one.
pub fn default_providers() -> Vec<ProviderSettings> {
    let driver = DriverSettings::Sim(SimSettings::default());
    vec![ProviderSettings { name: "sim".into(), import_projects: ImportProjects::None, driver }]
}

/// Reads a file of providers.
pub fn read(path: &Path) -> Result<Vec<ProviderSettings>, ProvidersError> {
    parse(&fs::read_to_string(path)?)
}

/// Parses the text of a file of providers.
pub fn parse(text: &str) -> Result<Vec<ProviderSettings>, ProvidersError> {
    let File { provider: providers } =
        toml::from_str(text).map_err(|error| ProvidersError::Invalid(describe_error(text, &error)))?;
    if providers.is_empty() {
        return Err(ProvidersError::Empty);
    }
    for (at, provider) in providers.iter().enumerate() {
        let name = &provider.name;
        if !is_provider_name(name) {
            return Err(ProvidersError::InvalidName(name.clone()));
        }
        if providers.iter().take(at).any(|other| other.name == *name) {
            return Err(ProvidersError::DuplicateName(name.clone()));
        }
    }
    Ok(providers)
}

/// Describes what is wrong with `text` and in which line. It does not show the line, which may contain a credential by
/// mistake.
fn describe_error(text: &str, error: &toml::de::Error) -> String {
    let message = error.message();
    let message = match message.split_once("string \"").map(|(before, rest)| (before, rest.rsplit_once('"'))) {
        Some((before, Some((_, after)))) => format!("{before}a string{after}"),
        _ => message.to_owned(),
    };
    let before = error.span().and_then(|span| text.get(..span.start));
    match before {
        Some(before) => {
            format!("line {}: {message}", before.lines().count().max(1) + usize::from(before.ends_with('\n')))
        }
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_of_providers_is_parsed_and_errors_name_the_problem() {
        let two =
            parse("[[provider]]\nname = 'a'\ndriver = 'sim'\n[[provider]]\nname = 'b'\ndriver = 'sim'\nseed = 7\n");
        assert_eq!(two.unwrap().len(), 2);
        let message = |text: &str| parse(text).unwrap_err().to_string();
        assert!(message("").contains("contains none"));
        assert!(message("[[provider]]\nname = 'A'\ndriver = 'sim'").contains("'A' cannot be"));
        assert!(message("[[provider]]\nname = 'a'\ndriver = 'cloud9'").contains("unknown variant `cloud9`"));
        assert!(
            message("[[provider]]\nname = 'a'\ndriver = 'sim'\n[[provider]]\nname = 'a'\ndriver = 'sim'")
                .contains("two providers")
        );
        assert!(message("[[provider]]\nname = 'a'\ndriver = 'sim'\nsede = 7").contains("sede"));
        let aws = "[[provider]]\nname = 'a'\ndriver = 'aws'\n";
        assert!(parse(&format!("{aws}region = 'eu-central-1'")).is_ok());
        assert!(message(aws).contains("region"));
        assert!(message(&format!("{aws}region = 'r'\nendpoint = 'http://cloud.example'")).contains("must be https"));
        assert!(message(&format!("{aws}region = 'r'\nsecret_access_key = 's'")).contains("unknown field"));
        let docker = |rest: &str| parse(&format!("[[provider]]\nname = 'a'\ndriver = 'docker'\n{rest}"));
        assert!(docker("sizes = { s = { cpus = 1, memory_mib = 64 } }").is_ok());
        assert!(docker("sockte = '/run/docker.sock'").unwrap_err().to_string().contains("sockte"));
        assert!(docker("sizes = {}").unwrap_err().to_string().contains("no sizes"));
        assert!(message("[[providr]]\nname = 'a'").contains("providr"));
        // Errors in a driver's settings point to the line of the `[[provider]]`, because serde deserializes them as a
        // whole.
        for (rest, line) in
            [("secret_access_key = 'hidden'", 1), ("region = 'r'\nsizes = 'hidden'", 1), ("region = 'hidden", 4)]
        {
            let message = message(&format!("{aws}{rest}"));
            assert!(message.contains(&format!("line {line}")) && !message.contains("hidden"), "{message}");
        }
    }

    #[test]
    fn only_listed_projects_may_import_and_none_by_default() {
        let imports = |list: &str| {
            let file = format!("[[provider]]\nname = 'a'\ndriver = 'sim'\nseed = 7\n{list}");
            parse(&file).map(|providers| providers[0].import_projects.clone()).map_err(|error| error.to_string())
        };
        let (one, other): (ProjectId, ProjectId) = ("proj_8f2c4".parse().unwrap(), "proj_9".parse().unwrap());
        for none in ["", "import_projects = []"] {
            assert!(!imports(none).unwrap().contains(one), "{none}");
        }
        assert!(default_providers().iter().all(|provider| !provider.import_projects.contains(one)));
        let listed = imports("import_projects = ['proj_8f2c4']").unwrap();
        assert!(listed.contains(one) && !listed.contains(other));
        assert!(imports("import_projects = ['*']").unwrap().contains(other));
        for bad in ["['*', 'proj_8f2c4']", "['proj_XYZ']", "['key_7d1']", "['']"] {
            let message = imports(&format!("import_projects = {bad}")).unwrap_err();
            assert!(message.contains("is not the id of a project") && message.contains("proj_8f2c4"), "{message}");
        }
        assert!(imports("import_projects = 'proj_8f2c4'").is_err());
    }
}
