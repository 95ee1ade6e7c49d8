//! Settings of a Docker engine.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

/// Docker engine, and the sizes and images that it offers.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RawSettings")]
pub struct DockerSettings {
    /// Unix socket of the engine.
    pub socket: PathBuf,
    /// Image names, each with the engine's name for it. Other names are passed to the engine unchanged.
    pub images: BTreeMap<String, String>,
    /// Size names, each with distinct limits.
    pub sizes: BTreeMap<String, Size>,
    /// Whether the engine can create networks.
    pub networking: bool,
    /// Whether missing images are pulled.
    pub pull: bool,
}

/// Limits of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// CPU limit in billionths of a CPU.
    pub nano_cpus: i64,
    /// Memory limit in bytes.
    pub memory: i64,
}

/// Error in the settings of a Docker engine.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Limits out of range.
    #[error("the size '{0}' must have `cpus` of 0.01 to 1024 and `memory_mib` of 6 to 16777216")]
    OutOfRange(String),
    /// Two sizes with equal limits: a container's size would be ambiguous.
    #[error("the sizes '{0}' and '{1}' are the same; give each different limits")]
    Same(String, String),
    /// No size.
    #[error("there are no sizes; add one, or remove `sizes` to use small, medium, large and xlarge")]
    NoSizes,
}

const DEFAULT_SIZES: [(&str, RawSize); 4] = [
    ("small", RawSize { cpus: 0.5, memory_mib: 512 }),
    ("medium", RawSize { cpus: 1.0, memory_mib: 1024 }),
    ("large", RawSize { cpus: 2.0, memory_mib: 2048 }),
    ("xlarge", RawSize { cpus: 4.0, memory_mib: 4096 }),
];

/// Settings as written in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawSettings {
    socket: PathBuf,
    images: BTreeMap<String, String>,
    sizes: BTreeMap<String, RawSize>,
    networking: bool,
    pull: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSize {
    cpus: f64,
    memory_mib: i64,
}

impl Default for RawSettings {
    fn default() -> Self {
        Self {
            socket: "/var/run/docker.sock".into(),
            images: BTreeMap::new(),
            sizes: DEFAULT_SIZES.map(|(name, size)| (name.to_owned(), size)).into(),
            networking: true,
            pull: false,
        }
    }
}

impl TryFrom<RawSettings> for DockerSettings {
    type Error = SettingsError;

    fn try_from(raw: RawSettings) -> Result<Self, SettingsError> {
        let mut sizes = BTreeMap::<String, Size>::new();
        for (name, RawSize { cpus, memory_mib }) in raw.sizes {
            if !(0.01..=1024.0).contains(&cpus) || !(6..=1 << 24).contains(&memory_mib) {
                return Err(SettingsError::OutOfRange(name));
            }
            let size = Size { nano_cpus: (cpus * 1e9).round() as i64, memory: memory_mib << 20 };
            if let Some((other, _)) = sizes.iter().find(|(_, other)| **other == size) {
                return Err(SettingsError::Same(other.clone(), name));
            }
            sizes.insert(name, size);
        }
        if sizes.is_empty() {
            return Err(SettingsError::NoSizes);
        }
        let RawSettings { socket, images, networking, pull, .. } = raw;
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
    fn settings_are_read_and_default_to_dockers_own_socket() {
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
    fn invalid_settings_are_rejected_by_name() {
        let error = |text| read(text).unwrap_err();
        assert!(error("sockte = '/run/docker.sock'").contains("sockte"));
        assert!(error("sizes = { s = { cpus = 0, memory_mib = 512 } }").contains("'s' must have"));
        assert!(error("sizes = { s = { cpus = 1, memory_mib = 5 } }").contains("'s' must have"));
        assert!(error("sizes = { s = { cpus = 1, memory = 512 } }").contains("memory"));
        assert!(error("sizes = {}").contains("no sizes"));
        let same = "sizes = { a = { cpus = 1, memory_mib = 64 }, b = { cpus = 1.0, memory_mib = 64 } }";
        assert!(error(same).contains("'a' and 'b' are the same"));
    }
}
