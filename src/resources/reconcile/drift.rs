//! Conditions that result from observing an object.

use serde_json::{Map, Value, json};

use crate::{
    base::runtime::clock::Timestamp,
    resources::{
        api::model::{Condition, ConditionType, OperationError},
        drivers::driver::{Object, ObjectState, Tags},
        engine::machine::Observation,
        kinds::{Power, spec::Spec},
    },
};

/// Desired state of a resource's object, in its provider's references. Without a spec if it is not known yet.
#[derive(Clone, Copy, Debug)]
pub struct DesiredState<'a> {
    /// Expected owner.
    pub tags: Tags,
    /// Desired spec.
    pub spec: Option<&'a Spec<String>>,
    /// Desired power state.
    pub power: Option<Power>,
}

impl DesiredState<'_> {
    /// Compares an observed object with the desired state.
    pub fn observe(&self, object: Option<&Object>) -> Observation {
        let Some(object) = object else { return Observation::Missing };
        if object.tags.is_some_and(|tags| tags != self.tags) {
            return Observation::Foreign;
        }
        let differs = self.spec.is_some_and(|spec| !spec.difference(&object.spec).is_empty());
        let power = if self.spec.is_some() { self.power } else { None };
        Observation::of(object.state, object.reason.clone(), differs, (power, object.power))
    }

    /// Returns the desired and the actual value of each member that differs.
    pub fn difference(&self, object: &Object) -> Map<String, Value> {
        let mut difference = self.spec.map(|spec| spec.difference(&object.spec)).unwrap_or_default();
        if object.state == ObjectState::Ready
            && let (Some(desired), Some(actual)) = (self.power, object.power)
            && desired != actual
        {
            difference.insert("power".into(), json!([desired, actual]));
        }
        if object.state == ObjectState::Failed {
            difference.insert("state".into(), json!(["ready", "failed"]));
        }
        difference
    }
}

/// Change in the drift of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriftChange {
    /// Nothing new.
    None,
    /// New or additional drift; with the differences.
    Detected(Map<String, Value>),
    /// The resource had drifted or was missing, and matches its spec again.
    Remediated,
}

/// Returns the conditions after an observation, and the change in drift.
pub fn apply_observation(
    before: &[Condition],
    observation: &Observation,
    difference: Map<String, Value>,
    now: Timestamp,
) -> (Vec<Condition>, DriftChange) {
    use ConditionType as T;
    let known = |kind: T| before.iter().find(|condition| condition.kind == kind);
    let others = before.iter().filter(|condition| !matches!(condition.kind, T::Drifted | T::Missing)).cloned();
    let mut after: Vec<Condition> = others.collect();
    let since = |kind: T| known(kind).map_or(now, |condition| condition.since);
    match observation {
        Observation::Busy => (before.to_vec(), DriftChange::None),
        Observation::InSync => {
            let had_drifted = known(T::Drifted).or(known(T::Missing)).is_some();
            (after, if had_drifted { DriftChange::Remediated } else { DriftChange::None })
        }
        Observation::Missing | Observation::Foreign => {
            let is_known = known(T::Missing).is_some();
            after.push(Condition {
                kind: T::Missing,
                reason: "deleted_elsewhere".into(),
                message: "The object was deleted or taken over outside this server. Delete the \
                          resource, or set 'reconcile' to 'enforce' to create it again"
                    .into(),
                since: since(T::Missing),
                difference: None,
            });
            let existence = Map::from_iter([("exists".to_owned(), json!([true, false]))]);
            (after, if is_known { DriftChange::None } else { DriftChange::Detected(existence) })
        }
        Observation::SpecDiffers | Observation::PowerDiffers(_) | Observation::Failed(_) => {
            let is_known =
                known(T::Drifted).is_some_and(|condition| condition.difference.as_ref() == Some(&difference));
            let members: Vec<&str> = difference.keys().map(String::as_str).collect();
            after.push(Condition {
                kind: T::Drifted,
                reason: "changed_elsewhere".into(),
                message: format!(
                    "Changed outside this server: {}. Change 'spec' to match, or set 'reconcile' to 'enforce' to revert \
                     the change",
                    members.join(" and ")
                ),
                since: since(T::Drifted),
                difference: Some(difference.clone()),
            });
            (after, if is_known { DriftChange::None } else { DriftChange::Detected(difference) })
        }
    }
}

/// Whether the last operation failed with an error that retrying cannot fix.
pub fn is_final(conditions: &[Condition]) -> bool {
    let is_failed = |condition: &&Condition| condition.kind == ConditionType::Failed;
    conditions.iter().find(is_failed).is_some_and(|failed| matches!(failed.reason.as_str(), "invalid" | "denied"))
}

/// Conditions after an operation has succeeded.
pub fn conditions_after_success() -> Vec<Condition> {
    Vec::new()
}

/// Conditions after an operation has failed.
pub fn conditions_after_failure(before: &[Condition], failure: &OperationError, now: Timestamp) -> Vec<Condition> {
    let others = before.iter().filter(|condition| condition.kind != ConditionType::Failed).cloned();
    let failed = Condition {
        kind: ConditionType::Failed,
        reason: failure.code.clone().into_owned(),
        message: failure.detail.clone(),
        since: now,
        difference: None,
    };
    others.chain([failed]).collect()
}
