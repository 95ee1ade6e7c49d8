//! PostgreSQL stops responding repeatedly while operations on resources are in progress. Its connections stay open, so
//! nothing fails immediately: waiting queries must continue afterwards, on servers with the default timing.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::{BoxFuture, LocalBoxFuture};
use sqlx::PgPool;

use crate::{
    harness::{
        client::Client,
        faults::plan_of_stalls,
        run::{self, Scale, Trial},
    },
    invariants::{
        Invariant, RunEnd, Verdict, converged::Converged, quiet::Quiet, recorded::Recorded, responses::Responses,
    },
    runs::cloud::BackgroundLoad,
    servers::cluster::Cluster,
};

const NODES: usize = 2;

/// How many clients create operations: enough that every database permit of the engine is in use when a stall begins.
const CLIENTS: usize = 24;

/// Slow enough that an operation takes several steps. One call in fifty fails.
const SIM: &str = "
[[provider]]
name = 'sim'
driver = 'sim'
latency_min_ms = 100
latency_max_ms = 1500
failures_per_mille = 20
";

/// How many operations must have been in progress concurrently for the run to be meaningful.
const MIN_IN_PROGRESS: i64 = 12;

/// Samples how many operations are in progress.
struct OperationsInProgress {
    db: PgPool,
    counts: Mutex<Vec<i64>>,
}

impl Invariant for OperationsInProgress {
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

    fn check<'a>(&'a self, _: &'a RunEnd<'a>) -> LocalBoxFuture<'a, Verdict> {
        Box::pin(async {
            let mut verdict = Verdict::default();
            let mut counts = self.counts.lock().unwrap().clone();
            counts.sort_unstable();
            let (half, most) = (counts[counts.len() / 2], counts[counts.len() - 1]);
            verdict.record("operations in progress, median", half);
            verdict.record("operations in progress, maximum", most);
            verdict.require(most >= MIN_IN_PROGRESS, || format!("at most {most} operations were in progress"));
            verdict
        })
    }
}

/// No operation is left queued or running.
struct NoUnfinishedOperation;

impl Invariant for NoUnfinishedOperation {
    fn check<'a>(&'a self, end: &'a RunEnd<'a>) -> LocalBoxFuture<'a, Verdict> {
        Box::pin(async {
            let mut verdict = Verdict::default();
            let sql = "SELECT count(*) FROM operations WHERE status IN ('queued', 'running')";
            let left: i64 = sqlx::query_scalar(sql).fetch_one(&end.cluster.db).await.unwrap();
            verdict.record("operations left queued or running", left);
            verdict.require(left == 0, || format!("{left} operations are left queued or running"));
            verdict
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stalls_of_postgresql_leave_no_operation_unfinished_and_no_duplicate_object() {
    let scale = Scale::from_env();
    let _share = run::busy(scale).await;
    let mut cluster = Cluster::start_with_providers(NODES, SIM).await;
    let mut converged = Converged::new(&cluster, SIM, "sim").await;
    converged.clients = CLIENTS;
    let background_load = BackgroundLoad(cluster.request("GET", "/v1/projects?limit=1", None));
    let under_way = OperationsInProgress { db: cluster.db.clone(), counts: Mutex::default() };
    let invariants: Vec<Arc<dyn Invariant>> = vec![
        Arc::new(Quiet),
        // Waits until all operations have ended, or fails.
        Arc::new(converged),
        Arc::new(NoUnfinishedOperation),
        Arc::new(under_way),
        Arc::new(background_load),
        Arc::new(Responses),
        Arc::new(Recorded),
    ];
    let faults = plan_of_stalls(scale.seed, scale.stalls);
    // Clients wait longer than a stall lasts: any other node uses the same database.
    let trial = Trial {
        seed: scale.seed,
        faults,
        invariants,
        timeout: 20_000..30_000,
        work: 8 * run::MIN_RESPONSES,
        last: vec![],
    };
    run::run(&mut cluster, trial).await;
}
