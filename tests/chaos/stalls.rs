//! PostgreSQL stops answering, again and again, while operations on resources are under way. Connections stay open, so
//! nothing fails at once: what waits must go on afterwards, on servers with the product's own times.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::{BoxFuture, LocalBoxFuture};
use sqlx::PgPool;

use crate::{
    client::Client,
    cloud::Company,
    faults::plan_of_stalls,
    invariants::{End, Invariant, Verdict, answers::Answers, converged::Converged, quiet::Quiet, told::Told},
    run::{self, Scale, Trial},
    world::World,
};

const NODES: usize = 2;

/// How many clients keep operations under way: enough that each database permit of the engine is in use when a stall comes.
const CLIENTS: usize = 24;

/// Slow enough that operations are under way for several turns; one call of fifty fails.
const SIM: &str = "
[[provider]]
name = 'sim'
driver = 'sim'
latency_min_ms = 100
latency_max_ms = 1500
failures_per_mille = 20
";

/// How many operations must have been under way at once at some time, for the run to prove something.
const ENOUGH: i64 = 12;

/// How many operations were under way, looked at all the time.
struct UnderWay {
    db: PgPool,
    counts: Mutex<Vec<i64>>,
}

impl Invariant for UnderWay {
    fn clients(&self) -> usize {
        1
    }

    fn act<'a>(&'a self, _: &'a mut Client) -> BoxFuture<'a, ()> {
        Box::pin(async {
            let sql = "SELECT count(*) FROM operations WHERE due_at IS NOT NULL";
            if let Ok(count) = sqlx::query_scalar(sql).fetch_one(&self.db).await {
                self.counts.lock().unwrap().push(count);
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        })
    }

    fn check<'a>(&'a self, _: &'a End<'a>) -> LocalBoxFuture<'a, Verdict> {
        Box::pin(async {
            let mut verdict = Verdict::default();
            let mut counts = self.counts.lock().unwrap().clone();
            counts.sort_unstable();
            let (half, most) = (counts[counts.len() / 2], counts[counts.len() - 1]);
            verdict.figure("operations under way, half of the time at least", half);
            verdict.figure("operations under way at most", most);
            verdict.require(most >= ENOUGH, || format!("never were more than {most} operations under way"));
            verdict
        })
    }
}

/// Nothing is left under way, and no operation is at a step that nobody goes on with.
struct NothingLeft;

impl Invariant for NothingLeft {
    fn check<'a>(&'a self, end: &'a End<'a>) -> LocalBoxFuture<'a, Verdict> {
        Box::pin(async {
            let mut verdict = Verdict::default();
            let sql = "SELECT count(*) FROM operations WHERE status IN ('queued', 'running')";
            let left: i64 = sqlx::query_scalar(sql).fetch_one(&end.world.db).await.unwrap();
            verdict.figure("operations left queued or running", left);
            verdict.require(left == 0, || format!("{left} operations are left queued or running"));
            verdict
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stalls_of_postgresql_leave_no_operation_behind_and_make_nothing_twice() {
    let _alone = run::alone().await;
    let scale = Scale::from_env();
    let mut world = World::start_with_providers(NODES, SIM).await;
    let mut converged = Converged::new(&world, SIM, "sim").await;
    converged.clients = CLIENTS;
    let company = Company(world.request("GET", "/v1/projects?limit=1", None));
    let under_way = UnderWay { db: world.db.clone(), counts: Mutex::default() };
    let invariants: Vec<Arc<dyn Invariant>> = vec![
        Arc::new(Quiet),
        // Waits until all is over, or fails.
        Arc::new(converged),
        Arc::new(NothingLeft),
        Arc::new(under_way),
        Arc::new(company),
        Arc::new(Answers),
        Arc::new(Told),
    ];
    let faults = plan_of_stalls(scale.seed, scale.stalls);
    // Clients wait for longer than a stall lasts: one that went elsewhere would only meet the same database.
    let trial =
        Trial { seed: scale.seed, faults, invariants, patience: 20_000..30_000, work: 8 * run::WORK, last: vec![] };
    run::run(&mut world, trial).await;
}
