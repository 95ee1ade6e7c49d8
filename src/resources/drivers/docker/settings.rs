//! What the operator says of an engine.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

/// An engine, and what is offered on it.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Written")]
pub struct DockerSettings {
    /// The engine's Unix socket.
    pub socket: PathBuf,
    /// The words for images, and what the engine calls them. Any other word is taken as the engine's own.
    pub images: BTreeMap<String, String>,
    /// The words for sizes, no two of which are the same.
    pub sizes: BTreeMap<String, Size>,
    /// Whether the engine can make networks.
    pub networking: bool,
    /// Whether an image that the engine does not have is pulled.
    pub pull: bool,
}

/// How large a container is, as the engine counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// In billionths of a processor.
    pub nano_cpus: i64,
    /// In bytes.
    pub memory: i64,
}

/// Why an engine cannot be used as the operator says.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// No container can be so small, or so large.
    #[error("the size '{0}' must have 0.01 to 1024 cpus and a memory_mib of 6 to 16777216")]
    OutOfRange(String),
    /// Which of the two a container has could not be told.
    #[error("the sizes '{0}' and '{1}' are the same; what a container has could not be told apart")]
    Same(String, String),
    /// There would be nothing to ask for.
    #[error("there are no sizes; leave `sizes` out to have small, medium, large and xlarge")]
    NoSizes,
}

const DEFAULT_SIZES: [(&str, WrittenSize); 4] = [
    ("small", WrittenSize { cpus: 0.5, memory_mib: 512 }),
    ("medium", WrittenSize { cpus: 1.0, memory_mib: 1024 }),
    ("large", WrittenSize { cpus: 2.0, memory_mib: 2048 }),
    ("xlarge", WrittenSize { cpus: 4.0, memory_mib: 4096 }),
];

/// The same as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    socket: PathBuf,
    images: BTreeMap<String, String>,
    sizes: BTreeMap<String, WrittenSize>,
    networking: bool,
    pull: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSize {
    cpus: f64,
    memory_mib: i64,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            socket: "/var/run/docker.sock".into(),
            images: BTreeMap::new(),
            sizes: DEFAULT_SIZES.map(|(word, size)| (word.to_owned(), size)).into(),
            networking: true,
            pull: false,
        }
    }
}

impl TryFrom<Written> for DockerSettings {
    type Error = SettingsError;

    fn try_from(written: Written) -> Result<Self, SettingsError> {
        let mut sizes = BTreeMap::<String, Size>::new();
        for (word, WrittenSize { cpus, memory_mib }) in written.sizes {
            if !(0.01..=1024.0).contains(&cpus) || !(6..=1 << 24).contains(&memory_mib) {
                return Err(SettingsError::OutOfRange(word));
            }
            let size = Size { nano_cpus: (cpus * 1e9).round() as i64, memory: memory_mib << 20 };
            if let Some((other, _)) = sizes.iter().find(|(_, other)| **other == size) {
                return Err(SettingsError::Same(other.clone(), word));
            }
            sizes.insert(word, size);
        }
        if sizes.is_empty() {
            return Err(SettingsError::NoSizes);
        }
        let Written { socket, images, networking, pull, .. } = written;
        Ok(Self { socket, images, sizes, networking, pull })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<DockerSettings, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn an_engine_is_as_the_operator_says_and_by_default_where_docker_puts_it() {
        let settings = read("").unwrap();
        assert_eq!(settings.socket, PathBuf::from("/var/run/docker.sock"));
        assert!(settings.networking && !settings.pull);
        assert_eq!(settings.sizes["small"], Size { nano_cpus: 500_000_000, memory: 512 << 20 });

        let settings = read(
            "images = { 'debian-12' = 'debian:12' }\nnetworking = false\n[sizes]\ntiny = { cpus = 1, memory_mib = 6 }",
        );
        let settings = settings.unwrap();
        assert_eq!(settings.sizes.len(), 1);
        assert_eq!(settings.sizes["tiny"], Size { nano_cpus: 1_000_000_000, memory: 6 << 20 });
        assert_eq!(settings.images["debian-12"], "debian:12");
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let told = |text| read(text).unwrap_err();
        assert!(told("sockte = '/run/docker.sock'").contains("sockte"));
        assert!(told("sizes = { s = { cpus = 0, memory_mib = 512 } }").contains("'s' must have"));
        assert!(told("sizes = { s = { cpus = 1, memory_mib = 5 } }").contains("'s' must have"));
        assert!(told("sizes = { s = { cpus = 1, memory = 512 } }").contains("memory"));
        assert!(told("sizes = {}").contains("no sizes"));
        let same = "sizes = { a = { cpus = 1, memory_mib = 64 }, b = { cpus = 1.0, memory_mib = 64 } }";
        assert!(told(same).contains("'a' and 'b' are the same"));
    }
}
