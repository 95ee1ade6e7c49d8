//! Webhooks: each event that a webhook subscribes to reaches its receiver at least once, as sealed, signed and with its
//! own ID. Nothing else does. Every delivery marked as delivered was acknowledged.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use cloudapi::base::id::EventId;
use futures_util::future::LocalBoxFuture;
use serde_json::json;

use super::{Invariant, RunEnd, Verdict, sealed::Sealed};
use crate::{
    harness::{
        random::Random,
        receiver::{Bound, Deliveries, Receiver},
    },
    servers::cluster::{Cluster, eventually, text},
};

/// Enough events to notice a lost one.
const MIN_EVENTS: usize = 100;

/// How long deliveries may make no progress while some are pending: longer than a lease and the longest backoff.
const LONGEST_SILENCE: Duration = Duration::from_secs(15);

/// A webhook and its event filter.
struct Hook {
    id: String,
    only: Option<&'static str>,
}

pub struct Delivered {
    project: String,
    hooks: Vec<Hook>,
    receiver: Receiver,
}

impl Delivered {
    /// Creates a webhook for all events of the harness's project, and one for a single event type.
    pub async fn new(cluster: &Cluster, seed: u64) -> Self {
        let count = async |sql| sqlx::query_scalar::<_, i64>(sql).fetch_one(&cluster.db).await.unwrap();
        // Earlier writes are sealed first, so that no webhook receives them.
        let staged = async || (count("SELECT count(*) FROM audit_staged").await == 0).then_some(());
        eventually("earlier writes are sealed", staged).await;
        let bound = Bound::new().await;
        let project = cluster.credentials.project.clone();
        let (mut hooks, mut secrets) = (Vec::new(), Vec::new());
        for only in [None, Some("key.created")] {
            let body =
                json!({ "project_id": project, "url": bound.url(hooks.len()), "event_types": Vec::from_iter(only) });
            let request = Arc::new(cluster.request("POST", "/v1/webhooks", Some(body)));
            let made = cluster.client(seed).send_until_final(&request).await;
            assert_eq!(made.status, 201, "{made:?}");
            hooks.push(Hook { id: text(&made.json()["id"]), only });
            secrets.push(text(&made.json()["secret"]));
        }
        Self { project, hooks, receiver: bound.receive(&secrets, Random::new(seed)) }
    }
}

const PENDING: &str = "SELECT count(*) FROM webhook_deliveries WHERE status = 'pending'";

/// Waits until no delivery is pending, or deliveries make no progress. Returns how many are pending.
async fn all_delivered(cluster: &Cluster) -> i64 {
    let (mut least, mut since) = (i64::MAX, Instant::now());
    while least > 0 && since.elapsed() < LONGEST_SILENCE {
        let pending: i64 = sqlx::query_scalar(PENDING).fetch_one(&cluster.db).await.unwrap();
        if pending < least {
            (least, since) = (pending, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    least
}

/// A webhook's deliveries by event, with status and number of attempts.
async fn deliveries(cluster: &Cluster, hook: &Hook) -> Vec<(EventId, String, i32)> {
    let sql = "SELECT event_id, status, attempt FROM webhook_deliveries
               WHERE 'wh_' || ltrim(replace(webhook_id::text, '-', ''), '0') = $1 ORDER BY event_id";
    sqlx::query_as(sql).bind(&hook.id).fetch_all(&cluster.db).await.unwrap()
}

impl Invariant for Delivered {
    fn is_exercised(&self) -> bool {
        self.receiver.acknowledged() >= MIN_EVENTS
    }

    fn check<'a>(&'a self, end: &'a RunEnd<'a>) -> LocalBoxFuture<'a, Verdict> {
        Box::pin(async {
            let mut verdict = Verdict::default();
            let begun = Instant::now();
            // Events sealed from here on may still be in delivery at the end.
            let sealed = Sealed::all_of(&end.cluster.db, &self.project).await;
            let last = sealed.last().map(|event| event.id);
            let pending = all_delivered(end.cluster).await;
            verdict.require(pending == 0, || format!("{pending} deliveries are pending and make no progress"));
            verdict.record("time until webhooks were delivered", format!("{:.1} s", begun.elapsed().as_secs_f32()));

            let received = self.receiver.deliveries();
            let (mut expected, mut attempts) = (0, 0);
            for (number, hook) in self.hooks.iter().enumerate() {
                let of_hook = expected_events(hook, &sealed);
                let rows = deliveries(end.cluster, hook).await;
                attempts += rows.iter().map(|(.., attempts)| i64::from(*attempts)).sum::<i64>();
                expected += of_hook.len();
                let rows: Vec<_> = rows.into_iter().filter(|(id, ..)| Some(*id) <= last).collect();
                require_rows(hook, &of_hook, &rows, &mut verdict);
                require_received(number, hook, &of_hook, &received, &mut verdict);
                let known: HashMap<_, _> = of_hook.iter().map(|event| (event.id, ())).collect();
                for (_, id) in received.acknowledged.keys().filter(|(of, _)| *of == number) {
                    let id: EventId = id.parse().expect("an event ID");
                    verdict.require(known.contains_key(&id) || Some(id) > last, || {
                        format!("{} received {id} without subscribing to it", hook.id)
                    });
                }
            }
            for wrong in &received.wrong {
                verdict.require(false, || wrong.clone());
            }
            let acknowledged: usize = received.acknowledged.values().sum();
            verdict.record("deliveries", expected);
            verdict.record("delivery attempts", attempts);
            verdict.record("requests received by webhooks", received.received);
            verdict.record("requests refused, cut or left hanging", received.rejected);
            verdict.record("acknowledged more than once", acknowledged - received.acknowledged.len());
            verdict
        })
    }
}

/// The events that a webhook subscribes to, from its own creation on.
fn expected_events<'a>(hook: &Hook, sealed: &'a [Sealed]) -> Vec<&'a Sealed> {
    let made = |event: &&Sealed| event.action != "webhook.created" || event.target != hook.id;
    let expected = |event: &&Sealed| hook.only.is_none_or(|only| only == event.action);
    sealed.iter().skip_while(made).filter(expected).collect()
}

/// Each event has one delivery, with the status `delivered`.
fn require_rows(hook: &Hook, expected: &[&Sealed], rows: &[(EventId, String, i32)], verdict: &mut Verdict) {
    let queued: Vec<EventId> = rows.iter().map(|(id, ..)| *id).collect();
    let expected: Vec<EventId> = expected.iter().map(|event| event.id).collect();
    verdict.require(queued == expected, || {
        let missing = expected.iter().filter(|id| !queued.contains(id)).count();
        format!(
            "{} subscribes to {} events, {missing} of them missing in its {} deliveries",
            hook.id,
            expected.len(),
            rows.len()
        )
    });
    for (id, status, attempts) in rows {
        verdict.require(status == "delivered", || format!("{id} to {} is {status} after {attempts} attempts", hook.id));
    }
}

/// The receiver has acknowledged each event, with the content of the audit entry.
fn require_received(number: usize, hook: &Hook, expected: &[&Sealed], received: &Deliveries, verdict: &mut Verdict) {
    for event in expected {
        let id = event.id.to_string();
        let delivered = received.events.get(&id);
        verdict.require(delivered.is_none_or(|delivered| event.is_recorded_by(delivered)), || {
            format!("{event:?} reached {} as {delivered:?}", hook.id)
        });
        verdict.require(received.acknowledged.contains_key(&(number, id)), || {
            format!("the receiver of {} never acknowledged {}, {}", hook.id, event.id, event.action)
        });
    }
}
