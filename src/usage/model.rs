//! What clients ask and see of usage.

use std::{borrow::Cow, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{
    audit::model::{Audited, Draft, Outcome, Target, members},
    base::{
        action::Action,
        clock::{Day, Timestamp},
        etag::{EntityTag, Versioned},
        id::{KeyId, ProjectId, TokenId},
        page::ListQuery,
        period::Period,
        schema::input,
    },
};

/// A project's usage in one billing period.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Usage {
    /// The period's first day.
    pub period_start: Day,
    /// The period's last day, which belongs to it.
    pub period_end: Day,
    /// Whether the numbers may still grow.
    pub status: PeriodStatus,
    /// Counted requests. Of a final period, as many as were known when it became final.
    #[schemars(range(min = 0))]
    pub requests: i64,
    /// How many of them go beyond what is included.
    #[schemars(range(min = 0))]
    pub overage: i64,
    /// How many are included; null for no limit. Of a final period, as it was when it became final.
    #[schemars(range(min = 0))]
    pub included: Option<i64>,
    /// When it became final.
    pub final_at: Option<Timestamp>,
    /// What was learned of it after that, by the day on which it was.
    pub adjustments: Vec<Adjustment>,
}

impl Versioned for Usage {
    fn etag(&self) -> EntityTag {
        EntityTag::of(self, &[])
    }
}

/// Whether a period's numbers may still grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum PeriodStatus {
    /// They may, until 24 hours after its end.
    Open,
    /// They may not: what is learned later is an adjustment.
    Final,
}

/// Requests of a final period that were not known when it became final.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Adjustment {
    /// The day on which they became known.
    pub recorded_on: Day,
    /// How many.
    #[schemars(range(min = 1))]
    pub requests: i64,
    /// How many of them go beyond what is included.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub overage: i64,
}

impl Usage {
    /// What is billed of a period; `adjustments` are the database's, which knows nothing of their overage.
    pub fn new(
        period: Period,
        requests: i64,
        included: Option<i64>,
        final_at: Option<Timestamp>,
        mut adjustments: Vec<Adjustment>,
    ) -> Self {
        let beyond = |requests: i64| included.map_or(0, |included| (requests - included).max(0));
        let mut known = requests;
        for adjustment in &mut adjustments {
            adjustment.overage = beyond(known + adjustment.requests) - beyond(known);
            known += adjustment.requests;
        }
        Self {
            period_start: Day(period.first()),
            period_end: Day(period.last()),
            status: if final_at.is_some() { PeriodStatus::Final } else { PeriodStatus::Open },
            requests,
            overage: beyond(requests),
            included,
            final_at,
            adjustments,
        }
    }
}

/// Which usage.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct UsageQuery {
    /// The project; needed with a session, whose user may see several.
    pub project_id: Option<String>,
    /// The UTC calendar month; the current one when left out.
    pub period: Option<Period>,
}

/// The filter of the list of periods.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct PeriodsFilter {
    /// The project; needed with a session, whose user may see several.
    pub project_id: Option<String>,
}

/// Which part of the usage, and how it is broken down.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct BreakdownFilter {
    /// The project; needed with a session, whose user may see several.
    pub project_id: Option<String>,
    /// The first day; that of the current month when left out.
    pub from: Option<Day>,
    /// The last day, which belongs to it; today when left out. At most 366 days from the first, and 92 when grouped by
    /// day.
    pub to: Option<Day>,
    /// What to tell apart: `key`, `token`, `route` and `day`, or several with commas between; `day` when left out.
    #[schemars(extend("default" = "day"))]
    pub group_by: Option<Groups>,
}

/// What a breakdown tells apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// Each key; what was not asked with one is together.
    pub key: bool,
    /// Each token; what was not asked with one is together.
    pub token: bool,
    /// Each route.
    pub route: bool,
    /// Each day.
    pub day: bool,
}

impl Groups {
    /// By day alone.
    pub const BY_DAY: Self = Self { key: false, token: false, route: false, day: true };
}

/// A text that names no groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be of key, token, route and day, with commas between")]
pub struct NotGroups;

impl FromStr for Groups {
    type Err = NotGroups;

    fn from_str(text: &str) -> Result<Self, NotGroups> {
        let mut groups = Self::default();
        for name in text.split(',') {
            match name {
                "key" => groups.key = true,
                "token" => groups.token = true,
                "route" => groups.route = true,
                "day" => groups.day = true,
                _ => return Err(NotGroups),
            }
        }
        Ok(groups)
    }
}

impl<'de> Deserialize<'de> for Groups {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Groups {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Groups".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let pattern = "^(key|token|route|day)(,(key|token|route|day))*$";
        let form = "one or several of key, token, route and day, with commas between";
        json_schema!({ "type": "string", "pattern": pattern, "x-form": form, "examples": ["key,route"] })
    }
}

/// The requests of one group. Only the members that were asked for are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BreakdownRow {
    /// The day.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Day")]
    pub day: Option<Day>,
    /// The key that was shown; null for whatever was asked with none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<KeyId>")]
    pub key_id: Option<Option<KeyId>>,
    /// The token that was shown; null for whatever was asked with none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<TokenId>")]
    pub token_id: Option<Option<TokenId>>,
    /// The route, as `METHOD /template`; null where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub route: Option<Option<String>>,
    /// Counted requests, those of adjustments with them.
    #[schemars(range(min = 1))]
    pub requests: i64,
}

/// What the operator has agreed on for a project's month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum QuotaKind {
    /// How many requests are included.
    Included,
    /// How many there may be at most.
    HardLimit,
}

impl QuotaKind {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Included => "included",
            Self::HardLimit => "hard_limit",
        }
    }
}

/// That a project's month has come so near to what it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Notice {
    /// The project.
    pub project_id: ProjectId,
    /// The month.
    pub period: Period,
    /// To what.
    pub quota: QuotaKind,
    /// How much that was.
    pub bound: i64,
    /// 80 or 100.
    pub percent: u8,
}

/// How near a project's month has come to what it includes or may reach.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct QuotaNotice {
    /// The month, as `YYYY-MM`.
    pub period: String,
    /// What has come near.
    pub quota: QuotaKind,
    /// How many requests that is.
    pub bound: i64,
    /// How much of it has been used at least, in percent.
    pub percent: u8,
    /// How many requests there were when this was noticed.
    pub requests: i64,
}

impl Audited for QuotaNotice {}

impl Notice {
    /// The entry that tells of it, as it is staged.
    pub fn to_entry(self, requests: i64, now: Timestamp) -> String {
        let Self { project_id, period, quota, bound, percent } = self;
        let action = if percent < 100 { Action::QuotaWarning } else { Action::QuotaReached };
        let notice = QuotaNotice { period: period.to_string(), quota, bound, percent, requests };
        let draft = Draft::by_system(action, Outcome::Success, members(&notice), now);
        Draft { target: Some(Target::new(project_id)), ..draft }.to_text()
    }
}

input!(UsageQuery, ListQuery<PeriodsFilter>, ListQuery<BreakdownFilter>);

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    #[test]
    fn overage_is_what_goes_beyond_what_is_included_and_adjustments_continue_it() {
        let period = Period::of(date!(2026 - 03 - 15));
        let adjustment = |requests| Adjustment { recorded_on: Day(date!(2026 - 04 - 09)), requests, overage: 0 };
        let overages = |requests, included| {
            let usage = Usage::new(period, requests, included, None, vec![adjustment(10), adjustment(5)]);
            (usage.overage, usage.adjustments[0].overage, usage.adjustments[1].overage)
        };
        assert_eq!(overages(90, None), (0, 0, 0));
        assert_eq!(overages(90, Some(200)), (0, 0, 0));
        assert_eq!(overages(90, Some(100)), (0, 0, 5));
        assert_eq!(overages(90, Some(95)), (0, 5, 5));
        assert_eq!(overages(90, Some(0)), (90, 10, 5));
    }

    #[test]
    fn groups_are_named_with_commas_between() {
        assert_eq!("day".parse(), Ok(Groups::BY_DAY));
        assert_eq!("key,route".parse(), Ok(Groups { key: true, route: true, ..Groups::default() }));
        for text in ["", "keys", "key,", "key, route", "Key"] {
            assert_eq!(text.parse::<Groups>(), Err(NotGroups), "{text:?}");
        }
    }
}
