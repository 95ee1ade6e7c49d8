//! `cloudapi admin project`: quotas of a project.

use std::{collections::BTreeMap, str::FromStr, sync::Arc};

use anyhow::Context;
use serde_json::json;

use super::by_operator;
use crate::{
    base::{action::Action, id::ProjectId},
    projects::{self, repo::Quota},
    resources::{
        kind::Kind,
        repo::quotas::{self, DEFAULT_QUOTA},
    },
    tx::{Change, Writes},
};

/// Number of requests, or no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound(Option<i64>);

impl FromStr for Bound {
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
pub struct Places(Kind, i32);

impl FromStr for Places {
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
    (included, hard_limit): (Option<Bound>, Option<Bound>),
    resources: &[Places],
    json: bool,
) -> anyhow::Result<String> {
    let unknown = || format!("there is no project '{project}'; use its ID, such as proj_8f2c4");
    let id: ProjectId = project.parse().with_context(unknown)?;
    let mut tx = writes.begin(&Arc::new(by_operator())).await?;
    let (name, before) = projects::repo::lock_quota(tx.db(), id).await?.with_context(unknown)?;
    let quota = Quota {
        included: included.map_or(before.included, |Bound(bound)| bound),
        hard_limit: hard_limit.map_or(before.hard_limit, |Bound(bound)| bound),
    };
    let mut places: BTreeMap<Kind, i32> = Kind::ALL.iter().map(|&kind| (kind, DEFAULT_QUOTA)).collect();
    places.extend(quotas::quotas(tx.db(), id).await?);
    let mut told = Change::new(Action::ResourceQuotaChanged, id, Some(id));
    let mut is_told = false;
    for &Places(kind, maximum) in resources {
        quotas::set_quota(tx.db(), id, kind, maximum).await?;
        let known = places.insert(kind, maximum).unwrap_or(DEFAULT_QUOTA);
        if known != maximum {
            told = told.with(kind.as_str(), [known, maximum]);
            is_told = true;
        }
    }
    if is_told {
        tx.also(told);
    }
    if quota == before {
        tx.commit_unchanged(()).await?;
    } else {
        projects::repo::set_quota(tx.db(), id, quota).await?;
        let change = Change::new(Action::ProjectQuotaChanged, id, Some(id)).updated(&before, &quota);
        tx.commit(change, ()).await?;
    }
    let Quota { included, hard_limit } = quota;
    if json {
        let printed =
            json!({ "id": id, "name": name, "included": included, "hard_limit": hard_limit, "resources": places });
        return Ok(printed.to_string());
    }
    let shown = |bound: Option<i64>, none: &str| bound.map_or(none.to_owned(), |n| format!("{n} requests per month"));
    let (included, hard_limit) = (shown(included, "unlimited"), shown(hard_limit, "none"));
    let places = places.iter().map(|(kind, maximum)| format!("{maximum} of {kind}")).collect::<Vec<_>>().join(", ");
    Ok(format!(
        "project     {id} ({name})\nincluded    {included}\nhard limit  {hard_limit}\nresources   at most {places}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_quota_has_a_kind_and_a_number() {
        assert_eq!("compute.instance=20".parse(), Ok(Places(Kind::Instance, 20)));
        assert_eq!("storage.volume=0".parse(), Ok(Places(Kind::Volume, 0)));
        for text in ["20", "compute.instance", "compute=20", "compute.instance=", "compute.instance=-1", "=1"] {
            assert!(text.parse::<Places>().is_err(), "{text}");
        }
    }
}
