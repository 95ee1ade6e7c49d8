//! `cloudapi admin project`: quotas of a project.

use std::{collections::BTreeMap, str::FromStr, sync::Arc};

use anyhow::Context;
use serde_json::json;

use super::by_operator;
use crate::{
    api::projects::{self, repo::Quota},
    base::{action::Action, id::ProjectId},
    resources::{
        kinds::Kind,
        store::quotas::{self, DEFAULT_QUOTA},
    },
    tx::{Change, Writes},
};

/// Number of requests, or no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimit(Option<i64>);

impl FromStr for RequestLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "unlimited" | "none" => Ok(Self(None)),
            _ => match text.parse() {
                Ok(number) if number >= 0 => Ok(Self(Some(number))),
                _ => {
                    Err(format!("must be a whole number of requests, from 0 to {}, or 'unlimited' or 'none'", i64::MAX))
                }
            },
        }
    }
}

/// Maximum number of resources of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceQuota(Kind, i32);

impl FromStr for ResourceQuota {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, number) = text.split_once('=').ok_or("must be a kind and a number, such as compute.instance=20")?;
        let kind: Kind = kind.parse().map_err(|error| format!("'{kind}': {error}"))?;
        match number.parse() {
            Ok(number) if number >= 0 => Ok(Self(kind, number)),
            _ => Err(format!("'{number}' must be a whole number of resources, from 0 to {}", i32::MAX)),
        }
    }
}

/// Sets the given quotas of a project, and returns all of them.
pub async fn set(
    writes: &Writes,
    project: &str,
    (included, hard_limit): (Option<RequestLimit>, Option<RequestLimit>),
    resources: &[ResourceQuota],
    json: bool,
) -> anyhow::Result<String> {
    let unknown = || format!("there is no project '{project}'; use its ID, such as proj_8f2c4");
    let id: ProjectId = project.parse().with_context(unknown)?;
    let mut tx = writes.begin(&Arc::new(by_operator())).await?;
    let (name, before) = projects::repo::lock_quota(tx.db(), id).await?.with_context(unknown)?;
    let quota = Quota {
        included: included.map_or(before.included, |RequestLimit(bound)| bound),
        hard_limit: hard_limit.map_or(before.hard_limit, |RequestLimit(bound)| bound),
    };
    let mut quotas_by_kind: BTreeMap<Kind, i32> = Kind::ALL.iter().map(|&kind| (kind, DEFAULT_QUOTA)).collect();
    quotas_by_kind.extend(quotas::quotas(tx.db(), id).await?);
    let mut change = Change::new(Action::ResourceQuotaChanged, id, Some(id));
    let mut is_changed = false;
    for &ResourceQuota(kind, maximum) in resources {
        quotas::set_quota(tx.db(), id, kind, maximum).await?;
        let known = quotas_by_kind.insert(kind, maximum).unwrap_or(DEFAULT_QUOTA);
        if known != maximum {
            change = change.with(kind.as_str(), [known, maximum]);
            is_changed = true;
        }
    }
    if is_changed {
        tx.add_change(change);
    }
    if quota == before {
        tx.commit_unchanged(()).await?;
    } else {
        projects::repo::set_quota(tx.db(), id, quota).await?;
        let quota_change = Change::new(Action::ProjectQuotaChanged, id, Some(id)).updated(&before, &quota);
        tx.commit(quota_change, ()).await?;
    }
    let Quota { included, hard_limit } = quota;
    if json {
        let printed = json!({ "id": id, "name": name, "included": included, "hard_limit": hard_limit, "resources": quotas_by_kind });
        return Ok(printed.to_string());
    }
    let text = |bound: Option<i64>, none: &str| bound.map_or(none.to_owned(), |n| format!("{n} requests per month"));
    let (included, hard_limit) = (text(included, "unlimited"), text(hard_limit, "none"));
    let quotas_by_kind =
        quotas_by_kind.iter().map(|(kind, maximum)| format!("{maximum} of {kind}")).collect::<Vec<_>>().join(", ");
    Ok(format!(
        "project     {id} ({name})\nincluded    {included}\nhard limit  {hard_limit}\nresources   at most {quotas_by_kind}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_quota_has_a_kind_and_a_number() {
        assert_eq!("compute.instance=20".parse(), Ok(ResourceQuota(Kind::Instance, 20)));
        assert_eq!("storage.volume=0".parse(), Ok(ResourceQuota(Kind::Volume, 0)));
        for text in ["20", "compute.instance", "compute=20", "compute.instance=", "compute.instance=-1", "=1"] {
            assert!(text.parse::<ResourceQuota>().is_err(), "{text}");
        }
    }
}
