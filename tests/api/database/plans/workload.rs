//! Calls every list with its filters, every route and every worker on a database with the statistics of a large one, and
//! records the statements.

use std::{mem, sync::Arc, time::Duration};

use cloudapi::{
    api::{
        usage::finalize::Finalizer,
        webhooks::{
            delivery::{backoff::DeliveryPolicy, queue},
            outbox::WebhookOptions,
        },
    },
    audit::sealing::retention::Retention,
    auth::revocation::node,
    base::{identity::scope::Scope, runtime::clock::Clock},
    db::deletions,
    resources::store::queue as operations,
    server::{routes, state::AppOptions},
    tx::idempotency,
};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::{
    coverage::sql_texts,
    growth::{
        lists::{self, List},
        project::Project,
        seed::{Counts, Seed},
        shapes::{self, LARGE_PROJECT, Position, Shape},
    },
    recorder::{Recorder, Statement},
    scans::{Indexes, rows_read},
    statistics::{Tenants, make_pages, plan, plan_prepared, set_statistics},
};
use crate::{
    database::columns,
    support::{
        Identity, Session, TestApp, cloud, cluster,
        items::{Items, body_of_write},
        receiver::Receiver,
        worker_faults,
    },
};

/// Rows of each kind in the project: more than the request of a page may read.
pub const ROWS: u64 = 5_000;
/// Pairs of filters are tested with these frequencies of their values.
const PAIRS: [[&str; 2]; 6] =
    [["many", "many"], ["many", "disjoint"], ["disjoint", "many"], ["many", "none"], ["none", "many"], ["few", "few"]];

/// What was recorded.
pub struct Workload {
    pub statements: Vec<Statement>,
    pub lists: Vec<ListRequest>,
    pub indexes: Indexes,
    /// Statements of [`super::PROOFS`], with the plans of each statistics.
    pub proofs: Vec<Statement>,
}

impl Workload {
    /// The planned SQL texts.
    pub fn texts(&self) -> Vec<&str> {
        self.statements.iter().map(|statement| statement.text.as_str()).collect()
    }
}

/// Request of a list.
pub struct ListRequest {
    /// Path of the list and names of its filters, such as `/v1/keys status`.
    pub filters: String,
    /// Path, values and page.
    pub text: String,
    pub rows_read: u64,
}

/// What the statements of the server do. None, with a message on stderr, if this PostgreSQL cannot record them.
pub async fn recorded() -> Option<&'static Workload> {
    static WORKLOAD: OnceCell<Option<Workload>> = OnceCell::const_new();
    WORKLOAD.get_or_init(run).await.as_ref()
}

async fn run() -> Option<Workload> {
    let database = cluster::fresh_database().await;
    let mut admin = PgConnection::connect_with(&database.clone().application_name("admin")).await.unwrap();
    let recorder = Recorder::default();
    if !recorder.enable(&mut admin).await {
        return None;
    }
    let _recording = recorder.start();
    let app = TestApp::start_on(database, Clock::system(), without_workers()).await;
    let owner = app.owner().await;
    let all_lists = lists::all(&routes::description());
    // Inserts the routes, of which the rows count requests.
    app.flush_usage().await;
    make_pages(&mut admin).await;
    let project = insert_rows(&owner, &all_lists, &mut admin).await;

    set_statistics(&mut admin, Tenants::One).await;
    // What was planned without statistics does not count.
    recorder.take();
    let (lists, mut statements) = call_lists(&owner, &all_lists, &project, &recorder).await;
    statements.extend(plan_prepared(&app).await);
    set_statistics(&mut admin, Tenants::Many).await;
    statements.extend(plan_prepared(&app).await);

    let policy = DeliveryPolicy { poll: Duration::from_millis(20), ..DeliveryPolicy::default() };
    let webhooks =
        WebhookOptions { allowed: vec!["127.0.0.0/8".parse().unwrap()], policy, ..WebhookOptions::default() };
    let options = AppOptions {
        webhooks,
        cloud: cloud::fast_provider(),
        audit_retention_months: Some(1),
        ..AppOptions::default()
    };
    let peer = app.start_peer(options).await;
    call_routes(&peer).await;
    columns::work(&peer, &Receiver::start().await).await;
    clean_up(&peer).await;
    statements.extend(recorder.take());
    super::PROOF_FUNCTION.call(&peer, &mut admin).await;
    let mut proofs = recorder.take();
    proofs.retain(|statement| statement.text.contains(super::PROOF_FUNCTION.statement));

    let mut other = sql_texts();
    other.retain(|text| !statements.iter().any(|statement| statement.text.contains(&text.fixed_part)));
    for tenants in [Tenants::Many, Tenants::One] {
        set_statistics(&mut admin, tenants).await;
        statements.extend(plan_prepared(&peer).await);
        for text in &other {
            statements.extend(plan(&mut admin, &text.sql).await);
        }
        for (sql, _) in super::PROOFS {
            proofs.push(plan(&mut admin, sql).await.unwrap());
        }
    }
    // Statements of the tests.
    statements.retain(|statement| {
        !statement.text.contains("pg_prepared_statements") && statement.text != "DELETE FROM webhooks"
    });
    let indexes = Indexes::read(&mut admin).await;
    // Searching all these rows for leaked secrets would take longer than the test. Other tests call the same routes.
    mem::forget(peer);
    mem::forget(app);
    Some(Workload { statements, lists, indexes, proofs })
}

/// Options of a server that only renews its lease, so that all other statements are those of requests.
fn without_workers() -> AppOptions {
    let workers = worker_faults::only(|worker| worker == "auth_lease");
    AppOptions { workers, cloud: cloud::fast_provider(), ..AppOptions::default() }
}

async fn insert_rows(owner: &Session<'_>, lists: &[List], db: &mut PgConnection) -> Project {
    let scopes: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
    let key = owner.key_with(json!({ "scopes": scopes })).await;
    let counts = Counts {
        keys: ROWS,
        tokens: ROWS,
        members: ROWS,
        projects: ROWS,
        sessions: ROWS,
        live: ROWS,
        deleted: ROWS,
        operations: ROWS,
        deliveries: ROWS,
        entries: ROWS,
        // Each has a counter for each day of a year, on two routes.
        credentials: 110,
    };
    let user = Uuid::from_u128(owner.user_id.as_u128());
    let seed = Seed::new(0, owner.project.parse().unwrap(), user, counts, owner.app.clock.now());
    Project::insert(db, &seed, owner.project.clone(), key.secret, lists).await.unwrap()
}

async fn call_lists(
    owner: &Session<'_>,
    lists: &[List],
    project: &Project,
    recorder: &Recorder,
) -> (Vec<ListRequest>, Vec<Statement>) {
    let app = owner.app;
    let (mut requests, mut all) = (Vec::new(), Vec::new());
    let mut next_cursor = None;
    for shape in shapes::all(lists, "/").iter().filter(|shape| is_tested(shape)) {
        let list = &lists[shape.list];
        let mut paging = Vec::new();
        if shape.position.is_descending() {
            paging.push(("order", "desc"));
        }
        // Some cursors are not IDs of rows.
        let cursor = project.cursors.get(&list.path).or(next_cursor.as_ref());
        if shape.position.is_deep() {
            let Some(cursor) = cursor else { continue };
            paging.push(("cursor", cursor.as_str()));
        }
        let path = project.path(list, shape, &paging);
        let secret = if shape.with_key { &project.key } else { &owner.secret };
        settle(app).await;
        all.extend(recorder.take());
        let response = app.http.get(format!("{}{path}", app.url)).bearer_auth(secret).send().await.unwrap();
        let status = response.status();
        let page: Value = response.json().await.unwrap();
        settle(app).await;
        let executed = recorder.take();
        // Some filters exclude each other.
        if status == 400 {
            continue;
        }
        assert_eq!(status, 200, "{path}: {page}");
        if shape.position == Position::First {
            next_cursor = page["next_cursor"].as_str().map(str::to_owned);
        }
        let names = shape.filters.iter().map(|(name, _)| name.as_str());
        requests.push(ListRequest {
            filters: [list.path.as_str()].into_iter().chain(names).collect::<Vec<_>>().join(" "),
            text: format!("{} {}, {}", list.path, shape.filters_text(), shape.position_text()),
            rows_read: executed.iter().map(|statement| rows_read(&statement.plan)).sum(),
        });
        all.extend(executed);
    }
    (requests, all)
}

fn is_tested(shape: &Shape) -> bool {
    let frequencies: Vec<&str> = shape.filters.iter().map(|(_, sample)| sample.frequency).collect();
    let is_first_or_deep = matches!(shape.position, Position::First | Position::DeepDescending);
    let is_selected = match frequencies[..] {
        [one, other] => PAIRS.contains(&[one, other]),
        _ => true,
    };
    shape.project == LARGE_PROJECT && is_selected && (frequencies.is_empty() || is_first_or_deep)
}

/// Waits until every connection has received the end of its last statement.
async fn settle(app: &TestApp) {
    while app.db.num_idle() < app.db.size() as usize {
        tokio::task::yield_now().await;
    }
}

async fn call_routes(app: &TestApp) {
    let table = routes::table();
    let mut items = Items::new(app).await;
    for operation in table.operations() {
        let path = items.path(operation).await;
        let is_idempotent = operation.response.is_idempotent() && operation.body.is_some();
        let body = if is_idempotent { body_of_write(operation, &items.owner.project) } else { items.body(operation) };
        let mut request = items.request(operation, &path);
        if is_idempotent {
            request = request.header("idempotency-key", operation.path);
        }
        let reply = match body {
            Some(body) => request.json(&body).send().await,
            None => request.send().await,
        };
        assert!(reply.status != 401 && reply.status < 500, "{path}: {}", reply.status);
        if operation.path == "/v1/sessions/current" {
            // It has revoked its own credential.
            items = Items::new(app).await;
        }
    }
    let key = items.owner.key_with(json!({ "scopes": ["tokens:write", "usage:read"] })).await;
    let token = key.token(&["tokens:write", "usage:read"]).await.token(&["usage:read"]).await;
    token.get("/v1/usage").await.ok();
    app.flush_usage().await;
}

/// What workers do once a minute.
async fn clean_up(app: &TestApp) {
    let now = app.clock.now();
    Finalizer::new(400).finalize_due(&app.db, now).await.unwrap();
    Retention::new(Arc::clone(&app.signer), 1).apply(&app.db, now).await.unwrap();
    let mut db = app.db.acquire().await.unwrap();
    node::prune_log(&mut db).await.unwrap();
    idempotency::delete_expired(&mut db, now).await.unwrap();
    deletions::delete_expired(&mut db, now).await.unwrap();
    queue::delete_old(&mut db, &DeliveryPolicy::default()).await.unwrap();
    queue::depth(&mut db).await.unwrap();
    operations::prune(&mut db, now.minus(Duration::from_secs(400 * 86_400))).await.unwrap();
    operations::depth(&mut db).await.unwrap();
}
