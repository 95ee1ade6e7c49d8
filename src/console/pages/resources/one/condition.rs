//! Conditions of a resource in words, with what to do about them.

use serde_json::Value;

use crate::{
    console::{
        browser::Visit,
        client::call::encode,
        components::{diff::Diff, status::Tone, time::When},
    },
    resources::api::model::{Condition, ConditionType, ResourceView},
};

/// Condition, as the page shows it.
pub struct Shown {
    /// Meaning.
    pub tone: Tone,
    /// What it means.
    pub title: &'static str,
    /// What the API says about it.
    pub message: String,
    /// Code of the reason.
    pub reason: String,
    /// Since when.
    pub since: When,
    /// Differences between what was asked for and what is.
    pub diff: Option<Diff>,
    /// Links to what can be done: label and path.
    pub remedies: Vec<(&'static str, String)>,
}

/// The conditions of a resource. `may_write` is whether the person may change it now.
pub fn of(visit: &Visit, resource: &ResourceView, may_write: bool) -> Vec<Shown> {
    resource.status.conditions.iter().map(|condition| shown(visit, resource, condition, may_write)).collect()
}

fn shown(visit: &Visit, resource: &ResourceView, condition: &Condition, may_write: bool) -> Shown {
    let path = super::super::path(resource.project_id, resource.id);
    let restore = ("Restore", format!("{path}/sync?remediate=true"));
    let (tone, title, remedies) = match condition.kind {
        ConditionType::Failed => {
            let was_created = resource.status.provider_ref.is_some();
            let again = ("Try again", format!("{path}/sync?remediate=true"));
            let delete = ("Delete", format!("{path}/delete"));
            (Tone::Bad, "The last operation failed", vec![if was_created { again } else { delete }])
        }
        ConditionType::Drifted => {
            let keep = keep(&path, condition).map(|path| ("Keep what is there", path));
            (Tone::Warn, "It was changed outside CloudAPI", [Some(restore), keep].into_iter().flatten().collect())
        }
        ConditionType::Missing => (Tone::Bad, "It was deleted outside CloudAPI", vec![restore]),
        ConditionType::Expired => {
            let extend = ("Extend its lifetime", format!("{path}/edit"));
            (Tone::Warn, "Its lifetime has ended, but other resources still use it", vec![extend])
        }
    };
    Shown {
        tone,
        title,
        message: condition.message.clone(),
        reason: condition.reason.clone(),
        since: visit.when(condition.since),
        diff: condition
            .difference
            .as_ref()
            .map(|difference| Diff::of_changes(difference).named("Requested", "Observed")),
        remedies: if may_write { remedies } else { Vec::new() },
    }
}

/// Path of the form that makes the observed values the requested ones. `None` if the spec is as requested.
fn keep(path: &str, condition: &Condition) -> Option<String> {
    let observed = condition.difference.iter().flatten().filter(|(name, _)| *name != "power");
    let observed = observed.filter_map(|(name, pair)| Some((name, pair.get(1)?)));
    let value = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let fields = observed.filter(|(_, observed)| observed.is_number() || observed.is_string());
    let fields: Vec<String> =
        fields.map(|(name, observed)| format!("spec.{name}={}", encode(&value(observed)))).collect();
    (!fields.is_empty()).then(|| format!("{path}/edit?{}", fields.join("&")))
}
