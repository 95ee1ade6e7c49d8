//! Pages of breakdowns, compared with the counts that they are read from.

use std::{collections::BTreeMap, iter};

use cloudapi::{
    api::usage::{
        counting::{
            flush,
            journal::slot::CounterKey,
            meter::{Meter, MeterOptions},
        },
        finalize::Finalizer,
    },
    base::{
        id::{KeyId, SessionId, TokenId},
        identity::credential::CredentialId,
        runtime::period::Period,
    },
};
use serde_json::{Map, Value, json};
use time::{Date, Duration};

use super::{
    HOUR, advance_past,
    breakdown::{at_a_months_beginning, reader},
    check_sums, data, this_month,
};
use crate::support::{Bearer, Identity, TestApp};

const GROUPINGS: [&str; 15] = [
    "day",
    "route",
    "key",
    "token",
    "day,route",
    "day,key",
    "day,token",
    "key,token",
    "key,route",
    "token,route",
    "day,key,token",
    "day,key,route",
    "day,token,route",
    "key,token,route",
    "day,key,token,route",
];

/// Routes by number. The third has no name.
const ROUTES: [(u32, Option<&str>); 3] = [(1, Some("GET /b")), (2, Some("GET /a")), (3, None)];

/// Requests that were counted.
struct Counted {
    day: Date,
    credential: CredentialId,
    route: Option<&'static str>,
    requests: i64,
}

/// Counts requests on `days` of several keys, tokens and a session at two servers, not all of them on each day and route.
async fn count(app: &TestApp, project: &str, credentials: &[CredentialId], days: &[Date]) -> Vec<Counted> {
    let mut counted = Vec::new();
    let meters = [0, 1].map(|_| Meter::new(MeterOptions::default()).unwrap());
    for (number, (&day, &credential)) in
        days.iter().flat_map(|day| credentials.iter().map(move |credential| (day, credential))).enumerate()
    {
        for (route, name) in ROUTES {
            let requests = (number * 5 + route as usize) % 4;
            if requests > 0 {
                let counter = CounterKey { project: Some(project.parse().unwrap()), credential, route, day };
                for request in 0..requests {
                    meters[request % 2].count(&counter, app.clock.now());
                }
                counted.push(Counted { day, credential, route: name, requests: requests as i64 });
            }
        }
    }
    for meter in meters {
        flush::close(&meter, &app.db, &app.clock).await;
    }
    counted
}

/// Day, key, token and route, if they are grouped by.
type Group = (Option<Date>, Option<Option<KeyId>>, Option<Option<TokenId>>, Option<Option<&'static str>>);

/// The breakdown of `counted` from `from` to `to`.
fn expected(counted: &[Counted], groups: &str, (from, to): (Date, Date)) -> Vec<Value> {
    let mut sums = BTreeMap::new();
    let by = |name: &str| groups.split(',').any(|group| group == name);
    for Counted { day, credential, route, requests } in counted.iter().filter(|row| (from..=to).contains(&row.day)) {
        let (key, token) = match *credential {
            CredentialId::Key(id) => (Some(id), None),
            CredentialId::Token(id) => (None, Some(id)),
            CredentialId::Session(_) => (None, None),
        };
        let group = (
            by("day").then_some(*day),
            by("key").then_some(key),
            by("token").then_some(token),
            by("route").then_some(*route),
        );
        *sums.entry(group).or_insert(0) += requests;
    }
    let row = |((day, key, token, route), requests): (Group, i64)| {
        let members = [
            ("day", day.map(|day| json!(day.to_string()))),
            ("key_id", key.map(|key| json!(key))),
            ("key_name", key.map(|_| Value::Null)),
            ("token_id", token.map(|token| json!(token))),
            ("token_name", token.map(|_| Value::Null)),
            ("route", route.map(|route| json!(route))),
            ("requests", Some(json!(requests))),
        ];
        Value::Object(Map::from_iter(members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)))))
    };
    sums.into_iter().map(row).collect()
}

/// All pages of a breakdown.
async fn pages(key: &Bearer<'_>, query: &str, limit: usize) -> Vec<Value> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = key.get(&format!("/v1/usage/breakdown?{query}&limit={limit}{cursor}")).await.ok();
        found.extend(data(&page).clone());
        let Some(next) = page["next_cursor"].as_str() else { return found };
        assert_eq!(data(&page).len(), limit, "{query}: a page that is not the last one is full");
        cursor = format!("&cursor={next}");
    }
}

#[tokio::test]
async fn pages_of_every_grouping_list_every_count_once() {
    let app = at_a_months_beginning().await;
    let owner = app.owner().await;
    let key = owner.key().await; // a request of the session, today
    app.flush_usage().await;
    sqlx::query("INSERT INTO usage_routes (id, route) VALUES (1, 'GET /b'), (2, 'GET /a')")
        .execute(&app.db)
        .await
        .unwrap();
    let reader = reader(&app).await;
    let asking = Bearer { app: &reader, secret: key.secret.clone() };
    let (month, today) = (this_month(&app), app.clock.now().date());
    let before = month.previous();
    let sessions = iter::once(CredentialId::Session(SessionId::new()));
    let credentials: Vec<_> = (0..5)
        .map(|_| CredentialId::Token(TokenId::new()))
        .chain((0..4).map(|_| CredentialId::Key(KeyId::new())))
        .chain(sessions)
        .collect();
    let days = [before.first(), before.last(), today, today + Duration::days(1), today + Duration::days(8)];
    let mut counted = count(&app, &owner.project, &credentials, &days).await;
    counted.push(Counted { day: today, credential: credentials[9], route: Some("POST /v1/keys"), requests: 1 });
    let check = async |counted: &[Counted], all_groupings: bool| {
        check_sums(&app).await;
        for (number, groups) in GROUPINGS.iter().enumerate().filter(|(number, _)| all_groupings || number % 2 == 0) {
            for (from, to) in [
                (before.first(), days[4]),
                (before.first(), before.last()),
                (before.last(), today),
                (days[3], days[3]),
                (days[4] + Duration::days(1), days[4] + Duration::days(2)),
            ] {
                let query = format!("group_by={groups}&from={from}&to={to}");
                let mut expected = expected(counted, groups, (from, to));
                assert_eq!(pages(&asking, &format!("{query}&order=asc"), 4 + number % 3).await, expected, "{query}");
                expected.reverse();
                assert_eq!(pages(&asking, &format!("{query}&order=desc"), 5).await, expected, "{query}");
            }
        }
    };
    check(&counted, true).await;

    // The first month becomes final, and gets late counts.
    app.clock.advance(24 * HOUR);
    Finalizer::new(62).finalize_due(&app.db, app.clock.now()).await.unwrap();
    check(&counted, true).await;
    counted.extend(count(&app, &owner.project, &credentials[3..7], &days[..2]).await);
    check(&counted, false).await;
}

#[tokio::test]
async fn months_that_were_missed_become_final_for_every_project() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let month = this_month(&app);
    // More than become final in one transaction.
    sqlx::query(
        "INSERT INTO projects (id, name, created_at) SELECT gen_random_uuid(), 'p', $1 FROM generate_series(1, 250)",
    )
    .bind(app.clock.now())
    .execute(&app.db)
    .await
    .unwrap();
    app.clock.advance(95 * 24 * HOUR);
    let (last, now) = (Period::of(app.clock.now().date()), app.clock.now());
    let finals = async || {
        let sql = "SELECT period, count(project_id) FROM usage_periods GROUP BY 1 ORDER BY 1";
        sqlx::query_as::<_, (Period, i64)>(sql).fetch_all(&app.db).await.unwrap()
    };
    let finalize = async |now| Finalizer::new(62).finalize_due(&app.db, now).await.unwrap();
    // A day after a month's end it is final.
    let due = Period::of(now.date().previous_day().unwrap()).previous();
    let months: Vec<_> = iter::successors(Some(month), |month| Some(month.next())).take_while(|m| *m <= due).collect();
    assert!(months.len() >= 2, "{month} to {last}");
    let expected: Vec<_> = months.iter().map(|month| (*month, 251)).collect();
    finalize(now).await;
    assert_eq!(finals().await, expected);
    // A project that is created later has no earlier month, and a deleted project with usage has a month like others.
    let other = app.owner().await;
    let key = other.key().await;
    let (session, gone) = (app.another_session(&owner).await, &owner.project);
    session.post_empty(&format!("/v1/projects/{gone}/archive")).await.ok();
    session.delete(&format!("/v1/projects/{gone}")).await.ok();
    app.flush_usage().await;
    let asked = this_month(&app);
    advance_past(&app, asked, 25 * HOUR);
    finalize(app.clock.now()).await;
    let all = finals().await;
    assert_eq!(all[..expected.len()], expected);
    assert_eq!(all.last(), Some(&(asked, 252)));
    let usage = key.get(&format!("/v1/usage?period={asked}")).await.ok();
    assert_eq!(usage["status"], "final");
}
