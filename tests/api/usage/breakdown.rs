//! `/v1/usage/breakdown`.

use std::collections::HashSet;

use cloudapi::{
    api::usage::{counting::meter::MeterOptions, finalize::Finalizer},
    server::state::AppOptions,
};
use serde_json::{Value, json};

use super::{HOUR, advance_past, check_sums, data, this_month};
use crate::support::{Bearer, Identity, Key, Reply, TestApp, Token};

/// A second server that does not count requests, so that reading usage does not change it.
pub(super) async fn reader(app: &TestApp) -> TestApp {
    let meter = MeterOptions { is_enabled: false, ..MeterOptions::default() };
    app.start_peer(AppOptions { meter, ..AppOptions::default() }).await
}

/// A project with two keys and a token, used differently on two days.
struct Used<'a> {
    busy: Key<'a>,
    quiet: Key<'a>,
    token: Token<'a>,
}

async fn used(app: &TestApp) -> Used<'_> {
    let owner = app.owner().await;
    let (busy, quiet) = (owner.key_with(json!({ "name": "busy" })).await, owner.key().await); // two requests of the session
    let token = busy.token(&["users:read", "usage:read"]).await;
    for _ in 0..3 {
        busy.get("/v1/keys").await.ok();
        token.get("/v1/users").await.ok();
    }
    quiet.get("/v1/keys").await.ok();
    app.clock.advance(24 * HOUR);
    busy.get("/v1/users/usr_123").await.problem(404, "not_found");
    busy.request("HEAD", "/v1/keys").send().await;
    app.flush_usage().await;
    Used { busy, quiet, token }
}

impl Used<'_> {
    /// Requests a breakdown from `reader`.
    async fn ask(&self, reader: &TestApp, query: &str) -> Reply {
        check_sums(reader).await;
        let key = Bearer { app: reader, secret: self.busy.secret.clone() };
        key.get(&format!("/v1/usage/breakdown?{query}")).await
    }

    /// All groups.
    async fn by(&self, reader: &TestApp, query: &str) -> Vec<Value> {
        let answer = self.ask(reader, query).await.ok();
        assert!(answer.get("next_cursor").is_none(), "{answer}");
        data(&answer).clone()
    }
}

/// A server whose clock is at the beginning of a month, so that tomorrow is in the same month.
pub(super) async fn at_a_months_beginning() -> TestApp {
    let app = TestApp::start().await;
    let month = this_month(&app);
    advance_past(&app, month, HOUR);
    app
}

#[tokio::test]
async fn usage_is_broken_down_by_key_token_route_and_day() {
    let app = at_a_months_beginning().await;
    let used = used(&app).await;
    let reader = reader(&app).await;
    let (busy, quiet, token) = (&json!(used.busy.id), &json!(used.quiet.id), &json!(used.token.id));
    let none = &json!(null);
    let by_key = used.by(&reader, "group_by=key").await;
    assert_eq!(
        by_key,
        [
            json!({ "key_id": none, "key_name": none, "requests": 5 }),
            json!({ "key_id": busy, "key_name": "busy", "requests": 6 }),
            json!({ "key_id": quiet, "key_name": none, "requests": 1 })
        ]
    );
    let by_token = used.by(&reader, "group_by=token").await;
    let unnamed = json!({ "token_id": none, "token_name": none, "requests": 9 });
    assert_eq!(by_token, [unnamed, json!({ "token_id": token, "token_name": "a token", "requests": 3 })]);
    let by_route = used.by(&reader, "group_by=route").await;
    assert_eq!(
        by_route,
        [
            json!({ "route": "GET /v1/keys", "requests": 5 }),
            json!({ "route": "GET /v1/users", "requests": 3 }),
            json!({ "route": "GET /v1/users/{user_id}", "requests": 1 }),
            json!({ "route": "POST /v1/keys", "requests": 2 }),
            json!({ "route": "POST /v1/tokens", "requests": 1 }),
        ]
    );
    let month = this_month(&app);
    let by_day = [
        json!({ "day": format!("{month}-01"), "requests": 10 }),
        json!({ "day": format!("{month}-02"), "requests": 2 }),
    ];
    assert_eq!(used.by(&reader, "group_by=day").await, by_day);
    assert_eq!(used.by(&reader, "").await, by_day, "grouped by day by default");
    assert_eq!(used.by(&reader, &format!("from={month}-02&to={month}-02")).await, by_day[1..]);
    assert_eq!(used.by(&reader, &format!("to={month}-01")).await, by_day[..1]);
    let by_both = used.by(&reader, "group_by=key,token").await;
    let of = |token: &Value, name: &Value, requests: i64| json!({ "key_id": none, "key_name": none, "token_id": token, "token_name": name, "requests": requests });
    assert!(by_both.contains(&of(token, &json!("a token"), 3)), "{by_both:?}");
    assert!(by_both.contains(&of(none, none, 2)), "{by_both:?}");
    assert_eq!(by_both.len(), 4);
}

#[tokio::test]
async fn breakdown_of_one_key_or_token_has_the_same_groups() {
    let app = at_a_months_beginning().await;
    let used = used(&app).await;
    let reader = reader(&app).await;
    for (member, id) in [("key_id", &used.busy.id), ("key_id", &used.quiet.id), ("token_id", &used.token.id)] {
        let filter = format!("{member}={id}");
        for groups in ["key,token,route", "day,key,token,route"] {
            let all = used.by(&reader, &format!("group_by={groups}&limit=100")).await;
            let expected: Vec<Value> = all.into_iter().filter(|row| row[member] == json!(id)).collect();
            let found = used.by(&reader, &format!("group_by={groups}&limit=100&{filter}")).await;
            assert!(!found.is_empty() && found == expected, "{found:?}");
            for order in ["asc", "desc"] {
                let (mut rows, mut cursor) = (Vec::new(), String::new());
                loop {
                    let query = format!("group_by={groups}&limit=1&order={order}&{filter}{cursor}");
                    let page = used.ask(&reader, &query).await.ok();
                    rows.extend(data(&page).clone());
                    let Some(next) = page["next_cursor"].as_str() else { break };
                    cursor = format!("&cursor={next}");
                }
                if order == "desc" {
                    rows.reverse();
                }
                assert_eq!(rows, expected, "{groups} {order}");
            }
        }
        let total = used.by(&reader, &format!("group_by=route&{filter}")).await;
        let by_day = used.by(&reader, &format!("group_by=day&{filter}")).await;
        let sum = |rows: &[Value]| rows.iter().map(|row| row["requests"].as_i64().unwrap()).sum::<i64>();
        assert_eq!(sum(&total), sum(&by_day));
    }
    assert_eq!(
        used.by(&reader, &format!("key_id={}&token_id={}", used.busy.id, used.token.id)).await,
        Vec::<Value>::new()
    );
    assert_eq!(used.by(&reader, "key_id=key_1").await, Vec::<Value>::new());
    // Without a scope for it, a name is null.
    let query = "group_by=token,key&limit=100";
    let token = Bearer { app: &reader, secret: used.token.secret.clone() };
    let rows = token.get(&format!("/v1/usage/breakdown?{query}")).await.ok();
    assert!(data(&rows).iter().all(|row| row["token_name"].is_null() && row["key_name"].is_null()), "{rows}");
}

#[tokio::test]
async fn breakdown_pages_have_no_gap_or_repeat_in_both_orders() {
    let app = at_a_months_beginning().await;
    let used = used(&app).await;
    let reader = reader(&app).await;
    for groups in ["key", "token", "route", "day", "day,route,key,token"] {
        let path = format!("group_by={groups}");
        let all = used.by(&reader, &format!("{path}&limit=100")).await;
        assert!(all.len() > 1);
        assert_eq!(all.iter().map(Value::to_string).collect::<HashSet<_>>().len(), all.len());
        for order in ["asc", "desc"] {
            let (mut found, mut cursor) = (Vec::new(), String::new());
            loop {
                let page = used.ask(&reader, &format!("{path}&limit=1&order={order}{cursor}")).await.ok();
                found.extend(data(&page).clone());
                let Some(next) = page["next_cursor"].as_str() else { break };
                cursor = format!("&cursor={next}");
            }
            if order == "desc" {
                found.reverse();
            }
            assert_eq!(found, all, "{groups} {order}");
        }
    }
}

#[tokio::test]
async fn breakdown_of_final_months_is_unchanged() {
    let app = at_a_months_beginning().await;
    let used = used(&app).await;
    let reader = reader(&app).await;
    let month = this_month(&app);
    let (from, to) = (month.first(), month.last());
    let queries: Vec<_> = ["key", "token", "route", "day", "key,route", "token,day"]
        .iter()
        .flat_map(|groups| {
            [(from, to), (from, from), (from.previous_day().unwrap(), to.next_day().unwrap())]
                .map(|days| (groups, days))
        })
        .map(|(groups, (from, to))| format!("group_by={groups}&from={from}&to={to}"))
        .collect();
    advance_past(&app, month, 25 * HOUR);
    let mut before = Vec::new();
    for query in &queries {
        before.push(used.by(&reader, query).await);
    }
    let finalizer = Finalizer::new(62);
    finalizer.finalize_due(&app.db, app.clock.now()).await.unwrap();
    let raw = "SELECT count(*) FROM usage_node";
    let rolled = "SELECT count(*) FROM usage_monthly";
    let count = async |sql: &'static str| sqlx::query_scalar::<_, i64>(sql).fetch_one(&app.db).await.unwrap();
    assert!(count(rolled).await > 0 && count(rolled).await < count(raw).await);
    for (query, before) in queries.iter().zip(&before) {
        assert_eq!(&used.by(&reader, query).await, before, "{query}");
    }
    // Whole months come only from the monthly sums.
    for sql in [
        "UPDATE usage_node SET n = n + 1000",
        "UPDATE usage_days d SET n = (SELECT sum(u.n) FROM usage_node u
                                      WHERE (u.project_id, u.day, u.kind, u.route, u.journal)
                                            = (d.project_id, d.day, d.kind, d.route, d.journal))",
    ] {
        sqlx::query(sql).execute(&app.db).await.unwrap();
    }
    for (query, before) in queries.iter().zip(&before) {
        let is_summed = !query.contains("day") && !query.ends_with(&format!("from={from}&to={from}"));
        assert_eq!(&used.by(&reader, query).await == before, is_summed, "{query}");
    }
}

#[tokio::test]
async fn days_beyond_retention_are_available_only_as_whole_months() {
    let app = at_a_months_beginning().await;
    let used = used(&app).await;
    let reader = reader(&app).await;
    let month = this_month(&app);
    advance_past(&app, month, 100 * 24 * HOUR);
    let finalizer = Finalizer::new(62);
    finalizer.finalize_due(&app.db, app.clock.now()).await.unwrap();
    let (from, to) = (month.first(), month.last());
    let by_key = used.by(&reader, &format!("group_by=key&from={from}&to={to}")).await;
    assert_eq!(by_key[1], json!({ "key_id": used.busy.id, "key_name": "busy", "requests": 6 }));
    for query in [
        format!("group_by=day&from={from}&to={to}"),
        format!("group_by=key&from={from}&to={from}"),
        format!("group_by=key&from={}&to={to}", from.next_day().unwrap()),
        format!("group_by=key&from={from}&to={}", to.next_day().unwrap()),
    ] {
        let problem = used.ask(&reader, &query).await.problem(400, "invalid_parameter");
        assert!(problem["detail"].as_str().unwrap().contains("only whole months are kept"), "{query}: {problem}");
    }
    for kept in ["SELECT count(n) FROM usage_node WHERE day <= $1", "SELECT count(n) FROM usage_days WHERE day <= $1"] {
        assert_eq!(sqlx::query_scalar::<_, i64>(kept).bind(to).fetch_one(&app.db).await.unwrap(), 0, "{kept}");
    }
}

#[tokio::test]
async fn invalid_breakdown_parameters_are_rejected() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    for (query, parameter) in [
        ("group_by=", "group_by"),
        ("group_by=user", "group_by"),
        ("group_by=key,%20token", "group_by"),
        ("from=2026-3-1", "from"),
        ("from=2026-02-30", "from"),
        ("to=yesterday", "to"),
        ("from=2026-03-02&to=2026-03-01", "from"),
        ("from=2026-01-01&to=2026-04-03", "from"),
        ("from=2026-01-01&to=2027-01-02&group_by=key", "from"),
    ] {
        let problem = key.get(&format!("/v1/usage/breakdown?{query}")).await.problem(400, "invalid_parameter");
        assert_eq!(problem["errors"][0]["parameter"], parameter, "{query}: {problem}");
    }
    key.get("/v1/usage/breakdown?from=2026-01-01&to=2026-04-02").await.ok();
    key.get("/v1/usage/breakdown?from=2026-01-01&to=2027-01-01&group_by=key").await.ok();
    for cursor in ["key_7d1", "x", "MjAyNi0wMy0wMQ", "%00"] {
        key.get(&format!("/v1/usage/breakdown?cursor={cursor}")).await.problem(400, "invalid_cursor");
    }
    owner.get("/v1/usage/breakdown").await.problem(400, "project_required");
    owner.get("/v1/usage/breakdown?project_id=proj_123").await.problem(404, "not_found");
}
