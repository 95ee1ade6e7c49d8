//! Audit log of a project.

pub mod entry;
pub mod export;
pub mod list;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    base::{id::ProjectId, runtime::clock::Timestamp},
    console::{
        components::status::{Badge, Tone},
        pages::objects::page_of,
    },
};

/// Path of the list.
fn path(project: ProjectId) -> String {
    format!("/console/projects/{project}/audit")
}

/// Entry of the API. Parts of a redacted entry are null.
#[derive(Debug, Deserialize)]
struct Entry {
    id: String,
    seq: i64,
    project_id: Option<ProjectId>,
    occurred_at: Option<Timestamp>,
    actor: Option<Actor>,
    actor_name: Option<String>,
    action: Option<String>,
    target: Option<Target>,
    target_name: Option<String>,
    outcome: Option<String>,
    request_id: Option<String>,
    source_ip: Option<String>,
    traceparent: Option<String>,
    user_agent: Option<String>,
    changes: Option<Map<String, Value>>,
    prev_hash: String,
    hash: String,
    redacted: bool,
}

#[derive(Debug, Deserialize)]
struct Actor {
    #[serde(rename = "type")]
    kind: String,
    id: Option<String>,
    credential_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Target {
    #[serde(rename = "type")]
    kind: String,
    id: String,
}

/// Somebody or something in an entry: its name, its ID, and its page if it has one.
#[derive(Clone, Debug)]
struct Named {
    name: String,
    /// ID, if it is not the name.
    id: Option<String>,
    path: Option<String>,
}

impl Named {
    fn new(project: ProjectId, id: &str, name: Option<String>) -> Self {
        let path =
            if id.parse() == Ok(project) { Some(format!("/console/projects/{project}")) } else { page_of(project, id) };
        match name {
            Some(name) => Self { name, id: Some(id.to_owned()), path },
            None => Self { name: id.to_owned(), id: None, path },
        }
    }
}

impl Entry {
    fn action(&self) -> String {
        self.action.clone().unwrap_or_else(|| "redacted".to_owned())
    }

    /// Who acted.
    fn actor(&self, project: ProjectId) -> Named {
        match &self.actor {
            Some(Actor { id: Some(id), .. }) => Named::new(project, id, self.actor_name.clone()),
            Some(Actor { kind, .. }) => Named { name: kind.clone(), id: None, path: None },
            None => Named { name: "redacted".to_owned(), id: None, path: None },
        }
    }

    /// What was acted on.
    fn target(&self, project: ProjectId) -> Option<Named> {
        self.target.as_ref().map(|target| Named::new(project, &target.id, self.target_name.clone()))
    }

    /// Badge of an action that did not succeed.
    fn refusal(&self) -> Option<Badge> {
        match self.outcome.as_deref() {
            Some("denied") => Some(Badge::new(Tone::Warn, "Denied")),
            Some("failed") => Some(Badge::new(Tone::Bad, "Failed")),
            _ => None,
        }
    }
}
