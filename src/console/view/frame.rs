//! What the layout shows on every page: the person, and the projects to switch to.

use crate::{
    api::users::model::Profile,
    console::{browser::Visit, client::Fault},
};

/// Person and projects.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The person, with their projects.
    pub profile: Profile,
}

impl Frame {
    /// Loads the frame.
    pub async fn load(visit: &Visit) -> Result<Self, Fault> {
        visit.profile().await.map(|profile| Self { profile: profile.clone() })
    }
}
