//! The operator's file of providers (`CLOUDAPI_PROVIDERS`), in TOML:
//!
//! ```toml
//! [[provider]]
//! name = "eu"
//! driver = "sim"
//! ```
//!
//! No secrets stand in it: a driver finds its credentials where its provider's own tools would.

use std::{fs, io, path::Path};

use serde::Deserialize;

use super::drivers::{aws::AwsSettings, docker::DockerSettings, sim::SimSettings};
use crate::base::id::ProjectId;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    provider: Vec<ProviderSettings>,
}

/// One provider.
#[derive(Clone, Debug, Deserialize)]
pub struct ProviderSettings {
    /// What clients call it.
    pub name: String,
    /// Which projects may import objects of the provider's account.
    #[serde(default)]
    pub import_projects: ImportProjects,
    /// What it is.
    #[serde(flatten)]
    pub driver: DriverSettings,
}

/// Which projects may make resources of objects that others made at a provider. Whoever may can take over, change and
/// delete every object of the account that carries no tags of ours: so nobody may unless the operator says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub enum ImportProjects {
    /// None.
    #[default]
    None,
    /// These.
    Listed(Vec<ProjectId>),
    /// All: `["*"]`.
    All,
}

impl ImportProjects {
    /// Whether a project may.
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
                    "import_projects: '{}' is not the id of a project; write ids such as \"proj_8f2c4\", or [\"*\"] alone for all projects",
                    text.escape_debug()
                )
            })
        };
        texts.iter().map(read).collect::<Result<_, _>>().map(Self::Listed)
    }
}

/// What a provider is, and what its driver must know.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "driver", rename_all = "lowercase")]
pub enum DriverSettings {
    /// Amazon Web Services.
    Aws(Box<AwsSettings>),
    /// A simulation.
    Sim(SimSettings),
    /// A Docker engine.
    Docker(DockerSettings),
}

/// Why a file of providers cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProvidersError {
    /// It cannot be read.
    #[error(
        "the file of providers cannot be read: {0}; CLOUDAPI_PROVIDERS must name a TOML file that this user may read"
    )]
    Unreadable(#[from] io::Error),
    /// It is not as it should be.
    #[error("the file of providers is not valid: {0}")]
    Invalid(String),
    /// A name is none.
    #[error(
        "'{0}' cannot be a provider's name: it must be 1 to 63 lower-case letters, digits and hyphens, and begin with a letter"
    )]
    BadName(String),
    /// Two have one name.
    #[error("two providers are called '{0}'; give each a name of its own")]
    TwoOfOneName(String),
    /// There is none.
    #[error(
        "the file of providers names none; add a [[provider]] with a name and a driver, or unset CLOUDAPI_PROVIDERS to have the simulated one"
    )]
    Empty,
}

/// Whether `name` can be a provider's.
pub fn is_provider_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// The providers there are if the operator names none: the simulated one.
pub fn default_providers() -> Vec<ProviderSettings> {
    let driver = DriverSettings::Sim(SimSettings::default());
    vec![ProviderSettings { name: "sim".into(), import_projects: ImportProjects::None, driver }]
}

/// Reads a file of providers.
pub fn read(path: &Path) -> Result<Vec<ProviderSettings>, ProvidersError> {
    parse(&fs::read_to_string(path)?)
}

/// Reads the text of one.
pub fn parse(text: &str) -> Result<Vec<ProviderSettings>, ProvidersError> {
    let File { provider: providers } =
        toml::from_str(text).map_err(|error| ProvidersError::Invalid(fault(text, &error)))?;
    if providers.is_empty() {
        return Err(ProvidersError::Empty);
    }
    for (at, provider) in providers.iter().enumerate() {
        let name = &provider.name;
        if !is_provider_name(name) {
            return Err(ProvidersError::BadName(name.clone()));
        }
        if providers.iter().take(at).any(|other| other.name == *name) {
            return Err(ProvidersError::TwoOfOneName(name.clone()));
        }
    }
    Ok(providers)
}

/// What is wrong with `text` and in which line. The line itself is not shown: a credential may be in it by mistake.
fn fault(text: &str, error: &toml::de::Error) -> String {
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
    fn a_file_names_providers_and_what_is_wrong_with_it_is_said() {
        let two =
            parse("[[provider]]\nname = 'a'\ndriver = 'sim'\n[[provider]]\nname = 'b'\ndriver = 'sim'\nseed = 7\n");
        assert_eq!(two.unwrap().len(), 2);
        let told = |text: &str| parse(text).unwrap_err().to_string();
        assert!(told("").contains("names none"));
        assert!(told("[[provider]]\nname = 'A'\ndriver = 'sim'").contains("'A' cannot be"));
        assert!(told("[[provider]]\nname = 'a'\ndriver = 'cloud9'").contains("unknown variant `cloud9`"));
        assert!(
            told("[[provider]]\nname = 'a'\ndriver = 'sim'\n[[provider]]\nname = 'a'\ndriver = 'sim'")
                .contains("two providers")
        );
        assert!(told("[[provider]]\nname = 'a'\ndriver = 'sim'\nsede = 7").contains("sede"));
        let aws = "[[provider]]\nname = 'a'\ndriver = 'aws'\n";
        assert!(parse(&format!("{aws}region = 'eu-central-1'")).is_ok());
        assert!(told(aws).contains("region"));
        assert!(told(&format!("{aws}region = 'r'\nendpoint = 'http://cloud.example'")).contains("must be https"));
        assert!(told(&format!("{aws}region = 'r'\nsecret_access_key = 's'")).contains("unknown field"));
        let docker = |rest: &str| parse(&format!("[[provider]]\nname = 'a'\ndriver = 'docker'\n{rest}"));
        assert!(docker("sizes = { s = { cpus = 1, memory_mib = 64 } }").is_ok());
        assert!(docker("sockte = '/run/docker.sock'").unwrap_err().to_string().contains("sockte"));
        assert!(docker("sizes = {}").unwrap_err().to_string().contains("no sizes"));
        assert!(told("[[providr]]\nname = 'a'").contains("providr"));
        // A fault of a driver's settings is told at the line where its provider begins: serde reads them as a whole.
        for (rest, line) in
            [("secret_access_key = 'hidden'", 1), ("region = 'r'\nsizes = 'hidden'", 1), ("region = 'hidden", 4)]
        {
            let told = told(&format!("{aws}{rest}"));
            assert!(told.contains(&format!("line {line}")) && !told.contains("hidden"), "{told}");
        }
    }

    #[test]
    fn projects_that_may_import_are_listed_and_none_may_by_default() {
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
            let told = imports(&format!("import_projects = {bad}")).unwrap_err();
            assert!(told.contains("is not the id of a project") && told.contains("proj_8f2c4"), "{told}");
        }
        assert!(imports("import_projects = 'proj_8f2c4'").is_err());
    }
}
