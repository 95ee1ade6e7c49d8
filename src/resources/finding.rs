//! Conditions that result from observing an object.

use serde_json::{Map, Value, json};

use super::{
    driver::{Object, ObjectState, Tags},
    kind::Power,
    machine::Sight,
    model::{Condition, ConditionType, OperationError},
    spec::Spec,
};
use crate::base::clock::Timestamp;

/// Desired state of a resource's object, in its provider's references. Without a spec if it is not known yet.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Expected owner.
    pub tags: Tags,
    /// Desired spec.
    pub spec: Option<&'a Spec<String>>,
    /// Desired power state.
    pub power: Option<Power>,
}

impl Wanted<'_> {
    /// Compares an observed object with the desired state.
    pub fn sight(&self, object: Option<&Object>) -> Sight {
        let Some(object) = object else { return Sight::Missing };
        if object.tags.is_some_and(|tags| tags != self.tags) {
            return Sight::Foreign;
        }
        let differs = self.spec.is_some_and(|spec| !spec.difference(&object.spec).is_empty());
        let power = if self.spec.is_some() { self.power } else { None };
        Sight::of(object.state, object.reason.clone(), differs, (power, object.power))
    }

    /// Returns the desired and the actual value of each member that differs.
    pub fn difference(&self, object: &Object) -> Map<String, Value> {
        let mut difference = self.spec.map(|spec| spec.difference(&object.spec)).unwrap_or_default();
        if object.state == ObjectState::Ready
            && let (Some(wanted), Some(actual)) = (self.power, object.power)
            && wanted != actual
        {
            difference.insert("power".into(), json!([wanted, actual]));
        }
        if object.state == ObjectState::Failed {
            difference.insert("state".into(), json!(["ready", "failed"]));
        }
        difference
    }
}

/// Change in the drift of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Nothing new.
    None,
    /// New or additional drift; with the differences.
    Drift(Map<String, Value>),
    /// The resource had drifted or was missing, and matches its spec again.
    Remediated,
}

/// Returns the conditions after an observation, and the change in drift.
pub fn noted(
    before: &[Condition],
    sight: &Sight,
    difference: Map<String, Value>,
    now: Timestamp,
) -> (Vec<Condition>, News) {
    use ConditionType as T;
    let known = |kind: T| before.iter().find(|condition| condition.kind == kind);
    let others = before.iter().filter(|condition| !matches!(condition.kind, T::Drifted | T::Missing)).cloned();
    let mut after: Vec<Condition> = others.collect();
    let since = |kind: T| known(kind).map_or(now, |condition| condition.since);
    match sight {
        Sight::Busy => (before.to_vec(), News::None),
        Sight::AsAsked => {
            let was_off = known(T::Drifted).or(known(T::Missing)).is_some();
            (after, if was_off { News::Remediated } else { News::None })
        }
        Sight::Missing | Sight::Foreign => {
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
            let told = Map::from_iter([("exists".to_owned(), json!([true, false]))]);
            (after, if is_known { News::None } else { News::Drift(told) })
        }
        Sight::Differs | Sight::Turn(_) | Sight::Broken(_) => {
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
            (after, if is_known { News::None } else { News::Drift(difference) })
        }
    }
}

/// Whether the last operation failed with an error that retrying cannot fix.
pub fn is_final(conditions: &[Condition]) -> bool {
    let is_failed = |condition: &&Condition| condition.kind == ConditionType::Failed;
    conditions.iter().find(is_failed).is_some_and(|failed| matches!(failed.reason.as_str(), "invalid" | "denied"))
}

/// Conditions after an operation has succeeded.
pub fn cleared() -> Vec<Condition> {
    Vec::new()
}

/// Conditions after an operation has failed.
pub fn failed(before: &[Condition], failure: &OperationError, now: Timestamp) -> Vec<Condition> {
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
