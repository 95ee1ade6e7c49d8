//! Types of the usage API.

use std::{borrow::Cow, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{
    audit::model::{Audited, Draft, Outcome, Target, members},
    base::{
        action::Action,
        etag::{EntityTag, Versioned},
        id::{KeyId, ProjectId, TokenId},
        input::{page::ListQuery, schema::input},
        runtime::{
            clock::{Day, Timestamp},
            period::Period,
        },
    },
};

/// Usage of a project in one billing period.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// First day of the period.
    pub period_start: Day,
    /// Last day of the period, inclusive.
    pub period_end: Day,
    /// Whether the numbers may still grow.
    pub status: PeriodStatus,
    /// Counted requests. For a final period, the requests that were known when it became final.
    #[schemars(range(min = 0))]
    pub requests: i64,
    /// Requests beyond the included volume.
    #[schemars(range(min = 0))]
    pub overage: i64,
    /// Included requests; null for unlimited. For a final period, the value at the time it became final.
    #[schemars(range(min = 0))]
    pub included: Option<i64>,
    /// Time at which the period became final; null while it is open.
    pub final_at: Option<Timestamp>,
    /// Requests that were reported after the period became final, by the day on which they were reported.
    pub adjustments: Vec<Adjustment>,
}

impl Versioned for Usage {
    fn etag(&self) -> EntityTag {
        EntityTag::of(self, &[])
    }
}

/// Whether a period's numbers may still grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum PeriodStatus {
    /// The numbers may grow, until 24 hours after the period's end.
    Open,
    /// The numbers are final. Requests that are reported later are adjustments.
    Final,
}

/// Requests of a final period that were reported after it became final.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Adjustment {
    /// Day on which the requests were reported.
    pub recorded_on: Day,
    /// Number of requests.
    #[schemars(range(min = 1))]
    pub requests: i64,
    /// Requests of this adjustment beyond the included volume.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub overage: i64,
}

impl Usage {
    /// Computes the usage of a period. `adjustments` come from the database, without their overage.
    pub fn new(
        period: Period,
        requests: i64,
        included: Option<i64>,
        final_at: Option<Timestamp>,
        mut adjustments: Vec<Adjustment>,
    ) -> Self {
        let overage_of = |requests: i64| included.map_or(0, |included| (requests - included).max(0));
        let mut total = requests;
        for adjustment in &mut adjustments {
            adjustment.overage = overage_of(total + adjustment.requests) - overage_of(total);
            total += adjustment.requests;
        }
        Self {
            period_start: Day(period.first()),
            period_end: Day(period.last()),
            status: if final_at.is_some() { PeriodStatus::Final } else { PeriodStatus::Open },
            requests,
            overage: overage_of(requests),
            included,
            final_at,
            adjustments,
        }
    }
}

/// Query of a project's usage.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct UsageQuery {
    /// Project ID. Required with a session, which can see several projects.
    pub project_id: Option<String>,
    /// UTC calendar month. Default: the current month.
    pub period: Option<Period>,
}

/// Filter of the list of billing periods.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct PeriodsFilter {
    /// Project ID. Required with a session, which can see several projects.
    pub project_id: Option<String>,
}

/// Filter and grouping of a usage breakdown.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct BreakdownFilter {
    /// Project ID. Required with a session, which can see several projects.
    pub project_id: Option<String>,
    /// First day. Default: the first day of the current month, or of `to`'s month if that is earlier.
    pub from: Option<Day>,
    /// Last day, inclusive. Default: today. The range has at most 366 days, or 92 if grouped by day.
    pub to: Option<Day>,
    /// Only requests with this key, without those of its tokens.
    pub key_id: Option<KeyId>,
    /// Only requests with this token.
    pub token_id: Option<TokenId>,
    /// Groups: `key`, `token`, `route`, `day`, or several of these, comma-separated. Default: `day`.
    #[schemars(extend("default" = "day"))]
    pub group_by: Option<Groups>,
}

/// Groups of a breakdown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// By key. Requests without a key form one group.
    pub key: bool,
    /// By token. Requests without a token form one group.
    pub token: bool,
    /// By route.
    pub route: bool,
    /// By day.
    pub day: bool,
}

impl Groups {
    /// By day only.
    pub const BY_DAY: Self = Self { key: false, token: false, route: false, day: true };
}

/// The text does not name groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one or more of key, token, route and day, comma-separated")]
pub struct InvalidGroups;

impl FromStr for Groups {
    type Err = InvalidGroups;

    fn from_str(text: &str) -> Result<Self, InvalidGroups> {
        let mut groups = Self::default();
        for name in text.split(',') {
            match name {
                "key" => groups.key = true,
                "token" => groups.token = true,
                "route" => groups.route = true,
                "day" => groups.day = true,
                _ => return Err(InvalidGroups),
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
        let form = "one or more of key, token, route and day, comma-separated";
        json_schema!({ "type": "string", "pattern": pattern, "x-form": form, "examples": ["key,route"] })
    }
}

/// Requests of one group. Only the requested groups are present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BreakdownRow {
    /// Day.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Day")]
    pub day: Option<Day>,
    /// Key of the requests; null for requests without a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<KeyId>")]
    pub key_id: Option<Option<KeyId>>,
    /// Current name of the key; null without one, and for callers without `keys:read`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub key_name: Option<Option<String>>,
    /// Token of the requests; null for requests without a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<TokenId>")]
    pub token_id: Option<Option<TokenId>>,
    /// Current name of the token; null without one, and for callers without `tokens:read`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub token_name: Option<Option<String>>,
    /// Route, as `METHOD /template`; null if unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub route: Option<Option<String>>,
    /// Counted requests, including adjustments.
    #[schemars(range(min = 1))]
    pub requests: i64,
}

/// Type of a monthly quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum QuotaKind {
    /// Included requests.
    Included,
    /// Maximum number of requests.
    HardLimit,
}

impl QuotaKind {
    /// Serialized name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Included => "included",
            Self::HardLimit => "hard_limit",
        }
    }
}

/// Usage notice: a project's requests in a month have reached a share of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Notice {
    /// Project.
    pub project_id: ProjectId,
    /// Month.
    pub period: Period,
    /// Type of the quota.
    pub quota: QuotaKind,
    /// Value of the quota.
    pub bound: i64,
    /// Reached share: 80 or 100.
    pub percent: u8,
}

/// Notice that a project's requests in a month have reached a share of a quota.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct QuotaNotice {
    /// Month, as `YYYY-MM`.
    pub period: String,
    /// Type of the quota.
    pub quota: QuotaKind,
    /// Value of the quota, in requests.
    pub bound: i64,
    /// Reached share of the quota, in percent.
    pub percent: u8,
    /// Number of requests at the time of the notice.
    pub requests: i64,
}

impl Audited for QuotaNotice {}

impl Notice {
    /// Builds the audit entry of the notice, ready to stage.
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
    fn overage_counts_requests_beyond_the_included_volume_across_adjustments() {
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
    fn groups_are_comma_separated() {
        assert_eq!("day".parse(), Ok(Groups::BY_DAY));
        assert_eq!("key,route".parse(), Ok(Groups { key: true, route: true, ..Groups::default() }));
        for text in ["", "keys", "key,", "key, route", "Key"] {
            assert_eq!(text.parse::<Groups>(), Err(InvalidGroups), "{text:?}");
        }
    }
}
