//! Filters of the lists of resources and operations: every combination, on every page.

use std::{collections::BTreeMap, fmt::Write as _};

use cloudapi::{
    base::id::{OperationId, ProjectId, ResourceId},
    resources::{
        engine::lifecycle::{OperationStatus, OperationType, Phase},
        kinds::Kind,
    },
};
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use super::{RESOURCES, instance, made, network, pipeline};
use crate::support::{Identity, Session, TestApp, cloud::id_of};

const PROVIDERS: [&str; 3] = ["north", "south", "west"];
/// Number of requests at a time.
const CLIENTS: usize = 4;

/// Pseudo-random numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(uuid::Uuid::new_v4().as_u64_pair().0)
    }

    fn next(&mut self) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.next() % from.len()]
    }

    fn labels(&mut self) -> BTreeMap<&'static str, &'static str> {
        let mut labels = BTreeMap::new();
        for key in ["env", "team", "a/b.c"] {
            if self.next().is_multiple_of(2) {
                labels.insert(key, self.pick(&["", "x", "y"]));
            }
        }
        labels
    }
}

struct Item {
    id: String,
    kind: Kind,
    provider: &'static str,
    phase: Phase,
    labels: BTreeMap<&'static str, &'static str>,
}

impl Item {
    /// Whether the item matches the label filter of the API.
    fn has_labels(&self, filter: &str) -> bool {
        filter.split(',').all(|label| match label.split_once('=') {
            Some((key, value)) => self.labels.get(key) == Some(&value),
            None => self.labels.contains_key(label),
        })
    }
}

/// Inserts random resources in their first phase, changes their phases and labels, and deletes some.
async fn insert_resources(owner: &Session<'_>, random: &mut Random, count: usize) -> Vec<Item> {
    let mut items: Vec<Item> = (0..count)
        .map(|_| Item {
            id: ResourceId::new().to_string(),
            kind: random.pick(Kind::ALL),
            provider: random.pick(&PROVIDERS),
            phase: Phase::Pending,
            labels: random.labels(),
        })
        .collect();
    store(owner, &items, "ON CONFLICT (id) DO NOTHING").await;
    for _ in 0..2 {
        for item in &mut items {
            if item.phase != Phase::Deleted {
                item.phase = random.pick(Phase::ALL);
            }
            if random.next().is_multiple_of(3) {
                item.labels = random.labels();
            }
        }
        let update = "ON CONFLICT (id) DO UPDATE SET phase = excluded.phase, labels = excluded.labels,
                                                     deleted_at = excluded.deleted_at";
        store(owner, &items, update).await;
    }
    for _ in 0..3 {
        let gone: ResourceId = items.swap_remove(random.next() % items.len()).id.parse().unwrap();
        sqlx::query("DELETE FROM resources WHERE id = $1").bind(gone).execute(&owner.app.db).await.unwrap();
    }
    items.sort_by_key(|item| item.id.parse::<ResourceId>().unwrap().as_u128());
    items
}

async fn store(owner: &Session<'_>, items: &[Item], on_conflict: &str) {
    let sql = format!(
        "INSERT INTO resources (id, project_id, kind, provider, name, labels, spec, phase, protection, reconcile, created_at,
                                deleted_at)
         SELECT n.id, $1, n.kind, n.provider, 'any', n.labels, '{{}}', n.phase, false, 'observe', now(),
                CASE WHEN n.phase = 'deleted' THEN now() END
         FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::jsonb[]) AS n (id, kind, provider, phase, labels)
         {on_conflict}"
    );
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(owner.project.parse::<ProjectId>().unwrap())
        .bind(items.iter().map(|item| item.id.parse().unwrap()).collect::<Vec<ResourceId>>())
        .bind(items.iter().map(|item| item.kind.as_str()).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.provider).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.phase.as_str()).collect::<Vec<_>>())
        .bind(items.iter().map(|item| json!(item.labels)).collect::<Vec<_>>())
        .execute(&owner.app.db)
        .await
        .unwrap();
}

/// The IDs on all pages of a list.
async fn list_all(who: &impl Identity, path: &str) -> Vec<String> {
    let (mut ids, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = who.get(&format!("{path}{cursor}")).await.ok();
        ids.extend(page["data"].as_array().unwrap().iter().map(id_of));
        let Some(next) = page["next_cursor"].as_str() else { return ids };
        cursor = format!("&cursor={next}");
    }
}

/// Asserts that all pages of a list have these IDs, which are in ascending order.
async fn assert_list(who: &impl Identity, path: &str, mut expected: Vec<&str>, is_descending: bool, seed: u64) {
    if is_descending {
        expected.reverse();
    }
    assert_eq!(list_all(who, path).await, expected, "seed {seed}: {path}");
}

/// Adds a parameter to a query, if it has a value.
fn add(query: &mut String, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        write!(query, "&{name}={value}").unwrap();
    }
}

/// `None` and each of the values.
fn with_none<T: Copy>(values: &[T]) -> Vec<Option<T>> {
    [None].into_iter().chain(values.iter().copied().map(Some)).collect()
}

#[tokio::test]
async fn every_combination_of_filters_lists_exactly_the_matching_resources() {
    let app = TestApp::start().await;
    let (owner, neighbor) = (app.owner().await, app.owner().await);
    let mut random = Random::new();
    let seed = random.0;
    let items = insert_resources(&owner, &mut random, 150).await;
    insert_resources(&neighbor, &mut random, 30).await;
    let key = pipeline(&owner).await;
    let storage = owner.key_with(json!({ "scopes": ["storage:read"] })).await;

    let labels =
        with_none(&["env=x", "env", "env=", "team=y", "env,team", "env=x,team=y", "a/b.c=x,env=y,team", "none=x"]);
    let mut requests = Vec::new();
    for kind in with_none(Kind::ALL) {
        for provider in with_none(&["north", "west", "gone"]) {
            for phase in with_none(Phase::ALL) {
                requests.extend(labels.iter().map(|label| (kind, provider, phase, *label)));
            }
        }
    }
    let (key, storage, items) = (&key, &storage, &items);
    stream::iter(requests.into_iter().enumerate())
        .for_each_concurrent(CLIENTS, async |(n, (kind, provider, phase, label))| {
            let is_descending = n % 2 == 0;
            let only_storage = kind.is_none() && n % 3 == 0;
            let mut path = format!("{RESOURCES}?limit=40&order={}", if is_descending { "desc" } else { "asc" });
            add(&mut path, "kind", kind.map(Kind::as_str));
            add(&mut path, "provider", provider);
            add(&mut path, "phase", phase.map(Phase::as_str));
            add(&mut path, "label", label);
            let expected: Vec<&str> = items
                .iter()
                .filter(|item| kind.is_none_or(|kind| item.kind == kind))
                .filter(|item| !only_storage || item.kind == Kind::Volume)
                .filter(|item| provider.is_none_or(|provider| item.provider == provider))
                .filter(|item| phase.map_or(item.phase != Phase::Deleted, |phase| item.phase == phase))
                .filter(|item| label.is_none_or(|label| item.has_labels(label)))
                .map(|item| item.id.as_str())
                .collect();
            assert_list(if only_storage { storage } else { key }, &path, expected, is_descending, seed).await;
        })
        .await;

    // The index of labels has exactly the labels of the resources that exist.
    let differences: i64 = sqlx::query_scalar(
        "WITH expected AS (
             SELECT r.project_id, t.term, phase_class(r.phase) AS class, r.kind, r.provider, r.id
             FROM resources r CROSS JOIN LATERAL unnest(label_terms(r.labels)) AS t (term)),
         indexed AS (SELECT project_id, term, class, kind, provider, resource_id FROM resource_labels)
         SELECT count(d.id) FROM (
             (TABLE expected EXCEPT TABLE indexed) UNION ALL (TABLE indexed EXCEPT TABLE expected)) d",
    )
    .fetch_one(&app.db)
    .await
    .unwrap();
    assert_eq!(differences, 0, "seed {seed}");
}

#[tokio::test]
async fn page_ends_early_after_a_thousand_resources_that_do_not_match() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let mut items: Vec<Item> = (0..1_200)
        .map(|_| Item {
            id: ResourceId::new().to_string(),
            kind: Kind::Volume,
            provider: "north",
            phase: Phase::Active,
            labels: BTreeMap::from([("env", "x")]),
        })
        .collect();
    let last = items.last_mut().unwrap();
    last.labels.insert("team", "y");
    let last = last.id.clone();
    store(&owner, &items, "").await;
    let key = pipeline(&owner).await;
    let path = format!("{RESOURCES}?label=env=x,team=y");
    let first = key.get(&path).await.ok();
    assert_eq!((&first["data"], &first["next_cursor"]), (&json!([]), &json!(items[999].id)));
    assert_eq!(list_all(&key, &path).await, [last]);
}

#[tokio::test]
async fn every_combination_of_filters_lists_exactly_the_matching_operations() {
    let app = TestApp::start().await;
    let (owner, neighbor) = (app.owner().await, app.owner().await);
    let mut random = Random::new();
    let seed = random.0;
    let resources = insert_resources(&owner, &mut random, 10).await;
    let foreign = insert_resources(&neighbor, &mut random, 4).await;
    let types = &OperationType::ALL[..4];
    let mut operations = Vec::new();
    for n in 0..120 {
        let resource = &resources[n % resources.len()];
        // At most one operation of a resource is in progress.
        let statuses = if n < resources.len() { &OperationStatus::ALL[..2] } else { &OperationStatus::ALL[2..] };
        let (id, kind, status) = (OperationId::new(), random.pick(types), random.pick(statuses));
        insert_operation(&app, id, resource, kind, status).await;
        operations.push((id.to_string(), resource, kind, status));
    }
    insert_operation(&app, OperationId::new(), &foreign[0], OperationType::Create, OperationStatus::Failed).await;
    let key = pipeline(&owner).await;
    let storage = owner.key_with(json!({ "scopes": ["storage:read"] })).await;

    let mut requests = Vec::new();
    for resource in [None, Some(&resources[0]), Some(&resources[1]), Some(&foreign[0])] {
        for status in with_none(OperationStatus::ALL) {
            requests.extend(with_none(types).into_iter().map(|kind| (resource, status, kind)));
        }
    }
    let (key, storage, operations) = (&key, &storage, &operations);
    stream::iter(requests.into_iter().enumerate())
        .for_each_concurrent(CLIENTS, async |(n, (resource, status, kind))| {
            let (is_descending, only_storage) = (n % 2 == 0, n % 3 == 0);
            let mut path = format!("/v1/operations?limit=40&order={}", if is_descending { "desc" } else { "asc" });
            add(&mut path, "resource_id", resource.map(|resource| resource.id.as_str()));
            add(&mut path, "status", status.map(OperationStatus::as_str));
            add(&mut path, "type", kind.map(OperationType::as_str));
            let expected: Vec<&str> = operations
                .iter()
                .filter(|operation| resource.is_none_or(|resource| operation.1.id == resource.id))
                .filter(|operation| !only_storage || operation.1.kind == Kind::Volume)
                .filter(|operation| kind.is_none_or(|kind| operation.2 == kind))
                .filter(|operation| status.is_none_or(|status| operation.3 == status))
                .map(|operation| operation.0.as_str())
                .collect();
            assert_list(if only_storage { storage } else { key }, &path, expected, is_descending, seed).await;
        })
        .await;
}

/// Inserts an operation. No server continues it before tomorrow.
async fn insert_operation(
    app: &TestApp,
    id: OperationId,
    resource: &Item,
    kind: OperationType,
    status: OperationStatus,
) {
    sqlx::query(
        "INSERT INTO operations (id, project_id, resource_id, resource_kind, provider, type, status, created_at, finished_at,
                                 deadline, due_at)
         SELECT $1, project_id, id, kind, provider, $3, $4, now(), CASE WHEN $5 THEN now() END, now() + interval '2 days',
                CASE WHEN NOT $5 THEN now() + interval '1 day' END
         FROM resources WHERE id = $2",
    )
    .bind(id)
    .bind(resource.id.parse::<ResourceId>().unwrap())
    .bind(kind)
    .bind(status)
    .bind(status.is_final())
    .execute(&app.db)
    .await
    .unwrap();
}

#[tokio::test]
async fn resources_that_refer_to_one_are_listed() {
    let app = TestApp::start().await;
    let (owner, stranger) = (app.owner().await, app.owner().await);
    let key = pipeline(&owner).await;
    let (net, other) = (made(&key, network()).await, made(&key, network()).await);
    let web = made(&key, instance(Some(&net), &[])).await;
    made(&key, instance(Some(&other), &[])).await;
    let listed = async |query: &str| {
        let list = key.get(&format!("{RESOURCES}?{query}")).await.ok();
        list["data"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed(&format!("refers_to={net}")).await, [web.as_str()]);
    assert_eq!(
        listed(&format!("refers_to={net}&kind=compute.instance&phase=active&provider=sim")).await,
        [web.as_str()]
    );
    assert!(listed(&format!("refers_to={net}&kind=storage.volume")).await.is_empty());
    assert!(listed(&format!("refers_to={web}")).await.is_empty());
    let foreign = format!("{RESOURCES}?project_id={}&refers_to={net}", stranger.project);
    assert_eq!(stranger.get(&foreign).await.ok()["data"], json!([]));
    let storage = owner.key_with(json!({ "scopes": ["storage:read"] })).await;
    assert_eq!(storage.get(&format!("{RESOURCES}?refers_to={net}")).await.ok()["data"], json!([]));
}
