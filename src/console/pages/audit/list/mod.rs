//! `/console/projects/{project_id}/audit`: who did what and when, and up to where the trail is signed.

use askama::Template;
use axum::{
    extract::Path,
    routing::{MethodRouter, get},
};
use serde::Deserialize;

use super::{Entry, Named};
use crate::{
    base::{
        action::Action,
        id::ProjectId,
        runtime::clock::{Day, Timestamp},
    },
    console::{
        Console,
        browser::{Visit, fields::Fields, visit::PageQuery},
        client::{Call, List},
        components::{
            chart::number,
            list::Paging,
            status::{Badge, Empty},
            time::When,
        },
        forms::{Choice, Field, Form, Summary},
        view::{Failure, PageResult},
    },
};

#[derive(Template)]
#[template(path = "pages/audit/list/list.html")]
struct Log {
    path: String,
    actor: Field,
    action: Field,
    target: Field,
    from: Field,
    to: Field,
    summary: Summary,
    is_filtered: bool,
    /// Whether the API does not accept a filter.
    is_rejected: bool,
    signed: Option<Signed>,
    rows: Vec<Row>,
    paging: Paging,
    empty: Empty,
}

struct Row {
    path: String,
    when: Option<When>,
    action: String,
    refusal: Option<Badge>,
    actor: Named,
    target: Option<Named>,
    source_ip: Option<String>,
}

/// Up to where the trail is signed.
struct Signed {
    seq: String,
    hash: String,
    when: When,
}

/// Checkpoint of the API.
#[derive(Deserialize)]
struct Checkpoint {
    seq: i64,
    hash: String,
    made_at: Timestamp,
}

const FILTERS: [&str; 5] = ["actor", "action", "target", "from", "to"];
/// Entries of a page.
const ENTRIES: usize = 50;

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    get(show)
}

async fn show(visit: Visit, Path(project): Path<ProjectId>, PageQuery(query): PageQuery) -> PageResult {
    let checkpoints = Call::get("/v1/audit-logs/checkpoints").query("project_id", project);
    let checkpoints = checkpoints.query("order", "desc").query("limit", 1);
    let entries = async { Ok(visit.api.send::<List<Entry>>(call(project, &query)).await) };
    let signed = async { visit.api.send::<List<Checkpoint>>(checkpoints).await.map_err(Failure::from) };
    let (entries, signed) = tokio::try_join!(entries, signed)?;
    let form = Form::new(query.clone());
    // A filter that the API does not accept has its error at the field.
    let (form, found) = match entries {
        Ok(found) => (form, found.body),
        Err(fault) => (form.rejected(fault, &[])?, List { data: Vec::new(), next_cursor: None }),
    };
    let is_filtered = FILTERS.iter().any(|name| !query.get(name).is_empty());
    let row = |entry: &Entry| Row {
        path: format!("{}/{}", super::path(project), entry.id),
        when: entry.occurred_at.map(|time| visit.when(time)),
        action: entry.action(),
        refusal: entry.refusal(),
        actor: entry.actor(project),
        target: entry.target(project),
        source_ip: entry.source_ip.clone(),
    };
    let last = signed.body.data.into_iter().next();
    let page = Log {
        path: super::path(project),
        actor: form.text("actor", "Actor ID").kind("search"),
        action: form.select("action", "Action", actions()),
        target: form.text("target", "Target ID").kind("search"),
        from: form.text("from", "From").kind("date"),
        to: form.text("to", "To").kind("date"),
        summary: form.summary(),
        is_filtered,
        is_rejected: form.is_rejected(),
        signed: last.map(|last| Signed { seq: number(last.seq), hash: last.hash, when: visit.when(last.made_at) }),
        rows: found.data.iter().map(row).collect(),
        paging: Paging::new(&visit, &query, &FILTERS, found.next_cursor.as_deref()),
        empty: match (is_filtered, found.next_cursor.is_some()) {
            (_, true) => Empty::new("No entry on this page matches", "Older entries can match: see the next page."),
            (true, false) => Empty::new("No entry matches", "Change the filters. IDs must be complete."),
            (false, false) => Empty::new("No entries yet", "Every write and every refused request is recorded here."),
        },
    };
    visit.page("Audit log").project(project).form(&form).show(&page)
}

/// The call of the list. Days are whole days in UTC.
fn call(project: ProjectId, query: &Fields) -> Call {
    let start = |day: Day| Timestamp::new(day.0.midnight().assume_utc()).to_string();
    // A text that is not a day is sent as it is, so that the API says what is wrong.
    let from = Day::parse(query.get("from")).map_or_else(|| query.get("from").to_owned(), start);
    let after = Day::parse(query.get("to")).and_then(|day| day.0.next_day()).map(Day);
    let to = after.map_or_else(|| query.get("to").to_owned(), start);
    let call = Call::get("/v1/audit-logs").query("project_id", project);
    let call = call.query("actor", query.get("actor")).query("action", query.get("action"));
    let call = call.query("target", query.get("target")).query("from", from).query("to", to);
    call.query("order", "desc").query("limit", ENTRIES).query("cursor", query.get("cursor"))
}

fn actions() -> Vec<Choice> {
    let any = Choice::new("", "Any action");
    let mut names: Vec<&str> = Action::ALL.iter().map(|action| action.as_str()).collect();
    names.sort_unstable();
    std::iter::once(any).chain(names.into_iter().map(|name| Choice::new(name, name))).collect()
}
