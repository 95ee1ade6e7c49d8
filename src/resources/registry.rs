//! The providers that the operator has configured, by their names.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    config::{DriverSettings, ImportProjects, ProviderSettings},
    driver::{Capabilities, Driver},
    drivers::{
        aws::{self, Aws},
        clean::CleanDriver,
        docker::Docker,
        sim::Sim,
    },
};
use crate::db::Pool;

/// One provider.
#[derive(Clone, Debug)]
pub struct Provider {
    /// What clients call it.
    pub name: String,
    /// Which driver speaks to it.
    pub driver_name: &'static str,
    /// Where it is, in its own terms; empty for nowhere in particular.
    pub region: String,
    /// Which projects may import objects of its account.
    pub import_projects: ImportProjects,
    /// Speaks to it.
    pub driver: Arc<dyn Driver>,
}

impl Provider {
    /// What it can do.
    pub fn capabilities(&self) -> &Capabilities {
        self.driver.capabilities()
    }
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Registry(BTreeMap<String, Provider>);

impl Registry {
    /// Those of `settings`. The simulated ones keep their objects in `db`.
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

    /// The one of this name.
    pub fn get(&self, name: &str) -> Option<&Provider> {
        self.0.get(name)
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Provider> {
        self.0.values()
    }
}
