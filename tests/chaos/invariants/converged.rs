//! Resources: even if servers are killed halfway, each acknowledged creation is one resource, and each resource that is
//! not deleted has one object at its provider, the recorded one. There are no other objects.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use cloudapi::{
    base::id::ResourceId,
    db::Pool,
    resources::{
        drivers::{
            config,
            driver::{Action, Driver, DriverErrorKind, ListQuery, Object, ObjectState, OwnerFilter},
            registry::Registry,
        },
        kinds::{Kind, Power},
    },
};
use futures_util::future::{BoxFuture, LocalBoxFuture};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use super::{Invariant, RunEnd, Verdict};
use crate::{
    harness::{
        client::{Client, is_retryable},
        http::{Request, Response},
    },
    servers::cluster::{Cluster, Credentials, text},
};

const CLIENTS: usize = 4;
/// How many creations the run needs.
const MIN_CREATIONS: usize = 60;
/// How many resources a client has at most.
const MAX_RESOURCES: usize = 8;
/// After how long unfinished operations count as hanging: several leases, and the longest backoff.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(120);
/// How many objects are changed by hand at the end.
const DRIFT_COUNT: usize = 6;

/// A resource that a client has created.
#[derive(Clone, Debug)]
struct Created {
    id: String,
    kind: Kind,
    operation: String,
}

pub struct Converged {
    credentials: Credentials,
    provider: &'static str,
    driver: Arc<dyn Driver>,
    /// How many clients there are.
    pub clients: usize,
    /// How many objects without an owner existed before.
    untagged: usize,
    deployment: Uuid,
    /// Resources by client.
    own: Mutex<HashMap<usize, Vec<Created>>>,
    created: Mutex<BTreeSet<String>>,
}

impl Converged {
    pub async fn new(cluster: &Cluster, providers: &str, provider: &'static str) -> Self {
        let registry = Registry::new(config::parse(providers).unwrap(), &Pool::from(cluster.db.clone()));
        let driver = Arc::clone(&registry.get(provider).unwrap().driver);
        let deployment = sqlx::query_scalar("SELECT id FROM deployment").fetch_one(&cluster.db).await.unwrap();
        let mut converged = Self {
            credentials: cluster.credentials.clone(),
            provider,
            driver,
            clients: CLIENTS,
            untagged: 0,
            deployment,
            own: Mutex::default(),
            created: Mutex::default(),
        };
        converged.untagged = converged.objects(OwnerFilter::Untagged).await.len();
        converged
    }

    fn request(&self, method: &'static str, path: &str, key: Option<String>, body: Option<Value>) -> Arc<Request> {
        Arc::new(Request { method, path: path.to_owned(), secret: self.credentials.session.clone(), key, body })
    }

    /// The provider's objects.
    async fn objects(&self, of: OwnerFilter) -> Vec<(Kind, Object)> {
        let mut objects = Vec::new();
        for &kind in Kind::ALL {
            let mut query = ListQuery { kind, deployment: self.deployment, owner: of, cursor: None };
            loop {
                let page = match self.driver.list_owned(&query).await {
                    Ok(page) => page,
                    Err(error) if matches!(error.kind, DriverErrorKind::Retryable { .. }) => continue,
                    Err(error) => panic!("{error}"),
                };
                objects.extend(page.objects.into_iter().map(|object| (kind, object)));
                match page.next {
                    Some(next) => query.cursor = Some(next),
                    None => break,
                }
            }
        }
        objects.retain(|(_, object)| object.state != ObjectState::Deleting);
        objects
    }

    async fn create(&self, client: &mut Client, own: &[Created]) -> Option<Created> {
        let random = &mut client.random;
        let of = |kind| own.iter().filter(move |made| made.kind == kind).map(|made| made.id.clone());
        let (kind, spec) = match random.below(10) {
            0..3 => (Kind::Network, json!({ "cidr": format!("10.{}.0.0/16", random.below(200)) })),
            3..7 => (Kind::Volume, json!({ "size_gib": 1 + random.below(10) })),
            _ => {
                let networks: Vec<String> = of(Kind::Network).collect();
                let network = (!networks.is_empty()).then(|| networks[random.below(networks.len())].clone());
                (Kind::Instance, json!({ "size": "small", "image": "debian-12", "network": network }))
            }
        };
        let name = format!("r-{}", random.next());
        let body = json!({ "project_id": self.credentials.project, "kind": kind, "provider": self.provider,
                           "name": name, "spec": spec });
        let request = self.request("POST", "/v1/resources", Some(name), Some(body));
        let response = send_until_final(client, &request).await?;
        // Its network may have been deleted meanwhile.
        if response.status != 202 {
            assert!(matches!(response.status, 404 | 409 | 422), "{response:?}");
            return None;
        }
        let made = response.json();
        let (id, operation) = (text(&made["resource"]["id"]), text(&made["operation"]["id"]));
        self.created.lock().unwrap().insert(id.clone());
        Some(Created { id, kind, operation })
    }

    /// Changes one of the client's resources in some way. Returns whether it is being deleted.
    async fn change(&self, client: &mut Client, made: &Created) -> bool {
        let path = format!("/v1/resources/{}", made.id);
        let key = Some(format!("k-{}", client.random.next()));
        let request = match (client.random.below(100), made.kind) {
            (0..25, _) => self.request("DELETE", &path, None, None),
            (25..33, _) => self.request("POST", &format!("{path}/sync"), key, None),
            // The provider may be slow.
            (33..60, _) => {
                tokio::time::sleep(client.random.millis(50, 300)).await;
                self.request("GET", &format!("/v1/operations/{}", made.operation), None, None)
            }
            (_, Kind::Volume) => {
                let size = 10 + client.random.below(90);
                self.request("PATCH", &path, key, Some(json!({ "spec": { "size_gib": size } })))
            }
            (_, Kind::Instance) => {
                let action = ["start", "stop", "reboot"][client.random.below(3)];
                self.request("POST", &format!("{path}/actions"), key, Some(json!({ "action": action })))
            }
            _ => self.request("GET", &path, None, None),
        };
        let Some(response) = send_until_final(client, &request).await else { return false };
        assert!(matches!(response.status, 200 | 202 | 404 | 409 | 422), "{request:?}: {response:?}");
        request.method == "DELETE" && (response.status == 202 || response.status == 404)
    }
}

/// Retries until there is a final response.
async fn send_until_final(client: &mut Client, request: &Arc<Request>) -> Option<Response> {
    let begun = Instant::now();
    while begun.elapsed() < OPERATION_TIMEOUT {
        let node = client.any_node();
        match client.send_unlogged(node, request).await.response {
            Some(response) if !is_retryable(&response) => return Some(response),
            _ => tokio::time::sleep(client.random.millis(5, 40)).await,
        }
    }
    panic!("no final response to {request:?}");
}

#[derive(Debug, sqlx::FromRow)]
struct Row {
    id: ResourceId,
    kind: Kind,
    phase: String,
    provider_ref: Option<String>,
    power: Option<Power>,
}

async fn rows(db: &PgPool) -> Vec<Row> {
    let sql = "SELECT id, kind, phase, provider_ref, desired_power AS power FROM resources";
    sqlx::query_as(sql).fetch_all(db).await.unwrap()
}

/// Waits until `sql` counts zero.
async fn wait_until_none(db: &PgPool, what: &str, sql: &'static str) {
    let begun = Instant::now();
    loop {
        let count: i64 = sqlx::query_scalar(sql).fetch_one(db).await.unwrap();
        if count == 0 {
            return;
        }
        assert!(begun.elapsed() < OPERATION_TIMEOUT, "{count} {what} after {OPERATION_TIMEOUT:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

const IN_PROGRESS: &str = "SELECT count(*) FROM operations WHERE due_at IS NOT NULL";

/// Waits until each provider has been swept once more, and the resulting operations have ended.
async fn wait_until_swept(db: &PgPool) {
    // Due at once: servers with the default timing sweep once a minute. A sweep in progress is fenced off.
    sqlx::query("UPDATE provider_sweeps SET swept_at = NULL, due_at = least(due_at, now())").execute(db).await.unwrap();
    wait_until_none(db, "kinds have not been swept", "SELECT count(*) FROM provider_sweeps WHERE swept_at IS NULL")
        .await;
    wait_until_none(db, "operations are unfinished", IN_PROGRESS).await;
}

impl Converged {
    /// The objects at the provider are the recorded ones.
    async fn compare(&self, db: &PgPool, verdict: &mut Verdict) -> (usize, usize) {
        let (rows, objects) = (rows(db).await, self.objects(OwnerFilter::All).await);
        let live: BTreeMap<ResourceId, &Row> =
            rows.iter().filter(|row| row.phase != "deleted").map(|row| (row.id, row)).collect();
        let mut seen = BTreeSet::new();
        for (kind, object) in &objects {
            let owner = object.tags.expect("tags of this deployment").resource;
            let row = live.get(&owner);
            let is_recorded =
                row.is_some_and(|row| row.kind == *kind && row.provider_ref.as_ref() == Some(&object.reference));
            verdict.require(is_recorded, || format!("{object:?} is not the recorded object: {row:?}"));
            verdict.require(seen.insert(owner), || format!("{owner} has two objects"));
            // An object that is being turned on or off has neither state.
            let turned = row.is_none_or(|row| row.phase != "active" || row.power == object.power);
            verdict.require(turned, || format!("{object:?} should have the power state of {row:?}"));
        }
        for row in live.values() {
            let is_consistent = match row.phase.as_str() {
                "active" => seen.contains(&row.id),
                "failed" => seen.contains(&row.id) == row.provider_ref.is_some(),
                _ => false,
            };
            verdict.require(is_consistent, || {
                format!("{row:?} has {} object", if seen.contains(&row.id) { "an" } else { "no" })
            });
        }
        (live.len(), objects.len())
    }

    /// Turns instances off and deletes volumes outside of CloudAPI. Returns how many changes succeeded.
    async fn cause_drift(&self, db: &PgPool) -> usize {
        let mut drifted = 0;
        for row in rows(db).await.into_iter().filter(|row| row.phase == "active") {
            let Some(reference) = &row.provider_ref else { continue };
            let call = match (row.kind, row.power) {
                (Kind::Instance, Some(Power::On)) => self.driver.action(row.kind, reference, Action::Power(Power::Off)),
                (Kind::Volume, _) => self.driver.delete(row.kind, reference),
                _ => continue,
            };
            sqlx::query("UPDATE resources SET reconcile = 'enforce' WHERE id = $1")
                .bind(row.id)
                .execute(db)
                .await
                .unwrap();
            // A refused call changes nothing.
            drifted += usize::from(call.await.is_ok());
            if drifted == DRIFT_COUNT {
                break;
            }
        }
        drifted
    }
}

impl Invariant for Converged {
    fn clients(&self) -> usize {
        self.clients
    }

    fn act<'a>(&'a self, client: &'a mut Client) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut own = self.own.lock().unwrap().remove(&client.number).unwrap_or_default();
            if own.len() < 3 || own.len() < MAX_RESOURCES && client.random.percent(40) {
                if let Some(made) = self.create(client, &own).await {
                    if client.random.percent(8) {
                        let path = format!("/v1/operations/{}/cancel", made.operation);
                        let key = Some(format!("c-{}", client.random.next()));
                        send_until_final(client, &self.request("POST", &path, key, None)).await;
                    }
                    own.push(made);
                }
            } else {
                let at = client.random.below(own.len());
                if self.change(client, &own[at].clone()).await {
                    own.remove(at);
                }
            }
            self.own.lock().unwrap().insert(client.number, own);
        })
    }

    fn is_exercised(&self) -> bool {
        self.created.lock().unwrap().len() >= MIN_CREATIONS
    }

    fn check<'a>(&'a self, end: &'a RunEnd<'a>) -> LocalBoxFuture<'a, Verdict> {
        Box::pin(async {
            let (mut verdict, begun, db) = (Verdict::default(), Instant::now(), &end.cluster.db);
            wait_until_none(db, "operations are unfinished", IN_PROGRESS).await;
            verdict.record("time until operations ended", format!("{:.1} s", begun.elapsed().as_secs_f32()));
            // A sweep finds unrecorded objects that a delayed server has created.
            wait_until_swept(db).await;
            wait_until_swept(db).await;
            let (live, objects) = self.compare(db, &mut verdict).await;
            verdict.record("resources not deleted", live);
            verdict.record("objects at the provider", objects);
            // Some clouds give each instance its own disk, which has no owner and is deleted with the instance.
            let disks = self.objects(OwnerFilter::All).await.iter().filter(|(kind, _)| *kind == Kind::Instance).count();
            let untagged = self.objects(OwnerFilter::Untagged).await.len();
            verdict.require([self.untagged, self.untagged + disks].contains(&untagged), || {
                format!("{untagged} objects have no owner; before: {}; running instances: {disks}", self.untagged)
            });
            let created = self.created.lock().unwrap().clone();
            let known: BTreeSet<String> = rows(db).await.iter().map(|row| row.id.to_string()).collect();
            verdict.require(created == known, || {
                format!("{} creations were acknowledged, but there are {} resources", created.len(), known.len())
            });
            verdict.record("creations acknowledged", created.len());
            let uncounted = "SELECT count(*) FROM resource_counts c WHERE count <>
                (SELECT count(*) FROM resources r WHERE r.project_id = c.project_id AND r.kind = c.kind AND phase <> 'deleted')";
            let uncounted: i64 = sqlx::query_scalar(uncounted).fetch_one(db).await.unwrap();
            verdict.require(uncounted == 0, || format!("{uncounted} kinds have a wrong count"));
            let ended = "SELECT status, count(*) FROM operations GROUP BY 1 ORDER BY 1";
            for (status, count) in sqlx::query_as::<_, (String, i64)>(ended).fetch_all(db).await.unwrap() {
                let name = match status.as_str() {
                    "succeeded" => "operations succeeded",
                    "failed" => "operations failed",
                    _ => "operations canceled",
                };
                verdict.record(name, count);
            }
            let why = "SELECT string_agg(code || ' ' || count, ', ') FROM (
                SELECT error ->> 'code' AS code, count(*) FROM operations WHERE status = 'failed' GROUP BY 1) failed";
            let why: Option<String> = sqlx::query_scalar(why).fetch_one(db).await.unwrap();
            verdict.record("error codes of failed operations", why.unwrap_or_else(|| "none".into()));
            let taken: i64 = sqlx::query_scalar("SELECT sum(fence)::int8 FROM operations").fetch_one(db).await.unwrap();
            verdict.record("times an operation was claimed or released", taken);

            let drifted = self.cause_drift(db).await;
            wait_until_swept(db).await;
            wait_until_swept(db).await;
            self.compare(db, &mut verdict).await;
            verdict.record("objects changed by hand and remediated", drifted);
            verdict
        })
    }
}
