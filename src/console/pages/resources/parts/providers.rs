//! Providers and their capabilities, as the API describes them.

use serde::Deserialize;

use crate::{
    console::{
        browser::Visit,
        client::{Call, Fault, List},
    },
    resources::{drivers::driver::ActionType, kinds::Kind},
};

/// Provider.
#[derive(Debug, Deserialize)]
pub struct Provider {
    /// Name.
    pub name: String,
    /// Name of the driver.
    pub driver: String,
    /// Region, if the provider has one.
    pub region: Option<String>,
    /// What the provider supports.
    pub capabilities: Capabilities,
}

/// What a provider supports.
#[derive(Debug, Deserialize)]
pub struct Capabilities {
    /// Whether the provider is a simulation.
    pub simulated: bool,
    /// Whether existing objects can be imported.
    pub import: bool,
    /// Supported kinds.
    pub kinds: Vec<KindCapabilities>,
}

/// What a provider supports for one kind.
#[derive(Clone, Debug, Deserialize)]
pub struct KindCapabilities {
    /// Kind.
    pub kind: Kind,
    /// Actions.
    pub actions: Vec<ActionType>,
    /// Members of the spec that can change.
    pub updatable: Vec<String>,
    /// Sizes.
    pub sizes: Vec<String>,
    /// Images.
    pub images: Vec<String>,
    /// Whether the provider's own identifiers can be used for sizes and images.
    pub native_terms: bool,
}

impl Provider {
    /// What the provider supports for a kind.
    pub fn of(&self, kind: Kind) -> Option<&KindCapabilities> {
        self.capabilities.kinds.iter().find(|known| known.kind == kind)
    }
}

/// All providers. The operator configures few.
pub async fn all(visit: &Visit) -> Result<Vec<Provider>, Fault> {
    let call = Call::get("/v1/providers").query("limit", 100);
    Ok(visit.api.send_unrecorded::<List<Provider>>(&call).await?.body.data)
}

/// The provider of this name. `None` if it is not configured any more.
pub async fn get(visit: &Visit, name: &str) -> Result<Option<Provider>, Fault> {
    match visit.api.send_unrecorded(&Call::get(format!("/v1/providers/{name}"))).await {
        Ok(found) => Ok(Some(found.body)),
        Err(fault) if fault.status.as_u16() == 404 => Ok(None),
        Err(fault) => Err(fault),
    }
}
