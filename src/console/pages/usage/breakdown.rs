//! Requests by group, the largest group first.

use askama::Template;

use crate::{
    api::usage::model::BreakdownRow,
    base::{id::ProjectId, runtime::period::Period},
    console::{
        browser::Visit,
        client::{Call, Fault, List},
        components::{
            chart::{Share, number},
            html_safe,
        },
        pages::objects::page_of,
    },
};

/// Groups of one call.
const PAGE: usize = 100;
/// Calls for one table. A project with more groups has them in the CSV file.
const MAX_CALLS: usize = 5;
/// Rows of the table.
const MAX_ROWS: usize = 50;

/// What requests are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Keys.
    Key,
    /// Tokens.
    Token,
    /// Routes.
    Route,
}

impl By {
    /// All, in the order of the page.
    pub const ALL: [Self; 3] = [Self::Key, Self::Token, Self::Route];

    /// Name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Token => "token",
            Self::Route => "route",
        }
    }

    /// Plural, for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Key => "Keys",
            Self::Token => "Tokens",
            Self::Route => "Routes",
        }
    }

    /// Text of the group without a value.
    const fn rest(self) -> (&'static str, &'static str) {
        match self {
            Self::Key => ("Without a key", "sessions and tokens"),
            Self::Token => ("Without a token", "sessions and keys"),
            Self::Route => ("Unknown route", ""),
        }
    }
}

/// Table of groups.
#[derive(Clone, Debug, Template)]
#[template(path = "pages/usage/breakdown.html")]
pub struct Breakdown {
    title: String,
    label: &'static str,
    rows: Vec<Row>,
    note: Option<String>,
}

#[derive(Clone, Debug)]
struct Row {
    name: String,
    /// ID beside the name.
    id: Option<String>,
    path: Option<String>,
    is_code: bool,
    requests: String,
    share: Share,
}

/// Call that groups the requests of a month up to today.
pub fn call(visit: &Visit, project: ProjectId, month: Period, group_by: &str) -> Call {
    let last = month.last().min(visit.now.date());
    let call = Call::get("/v1/usage/breakdown").query("project_id", project).query("group_by", group_by);
    call.query("from", month.first()).query("to", last).query("limit", PAGE)
}

impl Breakdown {
    /// Reads the groups of a call.
    pub async fn load(visit: &Visit, project: ProjectId, by: By, title: &str, call: Call) -> Result<Self, Fault> {
        let List { data: mut groups, mut next_cursor } = visit.api.send::<List<BreakdownRow>>(call.clone()).await?.body;
        for _ in 1..MAX_CALLS {
            let Some(cursor) = next_cursor.take() else { break };
            let call = call.clone().query("cursor", cursor);
            let more = visit.api.send_unrecorded::<List<BreakdownRow>>(&call).await?.body;
            groups.extend(more.data);
            next_cursor = more.next_cursor;
        }
        groups.sort_by_key(|group| std::cmp::Reverse(group.requests));
        let (found, total) = (groups.len(), groups.iter().map(|group| group.requests).sum::<i64>());
        let has_more = next_cursor.is_some();
        let note = match has_more {
            true => Some(format!("The first {found} by ID, the largest first. The CSV file has all.")),
            false if found > MAX_ROWS => Some(format!("The largest {MAX_ROWS} of {found}. The CSV file has all.")),
            false => None,
        };
        Ok(Self {
            title: title.to_owned(),
            label: by.title(),
            rows: groups.iter().take(MAX_ROWS).map(|group| row(project, by, group, total)).collect(),
            note,
        })
    }

    /// Whether there were no requests.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

fn row(project: ProjectId, by: By, group: &BreakdownRow, total: i64) -> Row {
    let key = group.key_id.flatten().map(|id| id.to_string());
    let token = group.token_id.flatten().map(|id| id.to_string());
    let (id, name) = match by {
        By::Key => (key, group.key_name.clone().flatten()),
        By::Token => (token, group.token_name.clone().flatten()),
        By::Route => (None, group.route.clone().flatten()),
    };
    let (rest, of) = by.rest();
    let path = id.as_deref().and_then(|id| page_of(project, id));
    let (name, id, is_code) = match (name, id) {
        (Some(name), id) => (name, id, by == By::Route),
        (None, Some(id)) => (id, None, true),
        (None, None) => (rest.to_owned(), Some(of.to_owned()).filter(|of| !of.is_empty()), false),
    };
    Row { name, id, path, is_code, requests: number(group.requests), share: Share::new(group.requests, total) }
}

html_safe!(Breakdown);
