//! Registry of the configured providers.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    aws::{self, Aws},
    clean::CleanDriver,
    config::{DriverSettings, ImportProjects, ProviderSettings},
    docker::Docker,
    driver::{Capabilities, Driver},
    sim::Sim,
};
use crate::db::Pool;

/// Configured provider.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Name, as clients write it.
    pub name: String,
    /// Name of the driver.
    pub driver_name: &'static str,
    /// Region in the provider's terms; empty if it has none.
    pub region: String,
    /// Projects that may import objects of the account.
    pub import_projects: ImportProjects,
    /// Driver instance.
    pub driver: Arc<dyn Driver>,
}

impl Provider {
    /// Capabilities of the provider.
    pub fn capabilities(&self) -> &Capabilities {
        self.driver.capabilities()
    }
}

/// All configured providers.
#[derive(Clone, Debug, Default)]
pub struct Registry(BTreeMap<String, Provider>);

impl Registry {
    /// Creates the providers of `settings`. Simulated ones store their objects in `db`.
    pub fn new(settings: Vec<ProviderSettings>, db: &Pool) -> Self {
        let provider = |settings: ProviderSettings| {
            let (name, import_projects) = (settings.name, settings.import_projects);
            let (driver_name, region, driver): (_, _, Arc<dyn Driver>) = match settings.driver {
                DriverSettings::Aws(settings) => {
                    let region = settings.region.clone();
                    ("aws", region, Arc::new(Aws::new(name.clone(), *settings, aws::process_environment())))
                }
                DriverSettings::Sim(settings) => {
                    ("sim", String::new(), Arc::new(Sim::new(name.clone(), settings, db.clone())))
                }
                DriverSettings::Docker(settings) => {
                    ("docker", String::new(), Arc::new(Docker::new(name.clone(), settings)))
                }
            };
            let driver = Arc::new(CleanDriver(driver));
            (name.clone(), Provider { name, driver_name, region, import_projects, driver })
        };
        Self(settings.into_iter().map(provider).collect())
    }

    /// Finds a provider by name.
    pub fn get(&self, name: &str) -> Option<&Provider> {
        self.0.get(name)
    }

    /// Iterates over all providers, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = &Provider> {
        self.0.values()
    }
}
