//! Measures the time until 100, 1,000 and 10,000 volumes are provisioned on the simulated provider with its default
//! latency, by one server and by two, next to a bare loop that makes the same calls with the same concurrency and
//! stores only the result. Run with `cargo bench --bench converge`; `-- 100 1000` measures only these numbers.

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::indexing_slicing, reason = "a program for a terminal")]

mod support;

use std::{
    collections::BTreeMap,
    env,
    path::Path,
    time::{Duration, Instant},
};

use cloudapi::{
    base::id::{OperationId, ProjectId, ResourceId},
    db::{self, Pool},
    resources::{
        drivers::{
            driver::{Driver, ObjectState, Order, Tags},
            sim::{Sim, SimSettings},
        },
        engine::timing::EngineTiming,
        kinds::{
            Kind,
            spec::{Spec, VolumeSpec},
        },
    },
};
use futures_util::{StreamExt, stream};
use support::{POOL, Result, bootstrap, deployment::Deployment, postgres::Postgres};
use uuid::Uuid;

const SIZES: [usize; 3] = [100, 1000, 10_000];
/// After how long the benchmark fails.
const CONVERGE_TIMEOUT: Duration = Duration::from_secs(900);

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    // `cargo test` builds benches too, and runs them with this argument.
    if arguments.iter().any(|argument| argument == "--test") {
        return Ok(());
    }
    let asked: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if asked.is_empty() { SIZES.to_vec() } else { asked };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let postgres = Postgres::start(folder.path())?;
    println!("time until all volumes are provisioned, next to a bare loop of the same calls");
    for count in sizes {
        let bare = runtime.block_on(async {
            let database = postgres.database(format!("bare_{count}").leak()).await?;
            bare(&database, count).await
        })?;
        println!("  {count:>6} bare       {:>7.2} s  {:>6.0}/s", bare.as_secs_f64(), rate(count, bare));
        for servers in [1, 2] {
            let database = runtime.block_on(postgres.database(format!("ours_{count}_{servers}").leak()))?;
            let took = ours(&runtime, folder.path(), &database, (count, servers))?;
            println!(
                "  {count:>6} {servers} server{} {:>7.2} s  {:>6.0}/s  {:.2} of bare",
                if servers == 1 { " " } else { "s" },
                took.as_secs_f64(),
                rate(count, took),
                bare.as_secs_f64() / took.as_secs_f64(),
            );
        }
    }
    Ok(())
}

fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// The bare loop: create each volume, read it until it is ready, store the result.
async fn bare(database: &str, count: usize) -> Result<Duration> {
    let db = db::pool(db::options_from_url(database)?, POOL);
    db::prepare(&db).await?;
    let sim = Sim::new("sim".into(), SimSettings::default(), db.clone());
    let timing = EngineTiming::default();
    sqlx::query("CREATE TABLE made (id uuid PRIMARY KEY, reference text NOT NULL)").execute(&*db).await?;
    let began = Instant::now();
    let (sim, db) = (&sim, &db);
    // All concurrently, as in the server.
    let made = stream::iter(0..count).map(|_| make(sim, db, timing.reread_interval)).buffer_unordered(count);
    made.collect::<Vec<_>>().await.into_iter().collect::<Result<Vec<()>>>()?;
    Ok(began.elapsed())
}

async fn make(sim: &Sim, db: &Pool, pause: Duration) -> Result<()> {
    let resource = ResourceId::new();
    let order = Order {
        tags: Tags { deployment: Uuid::nil(), resource },
        operation: OperationId::new(),
        name: "bench".into(),
        labels: BTreeMap::new(),
        spec: Spec::Volume(VolumeSpec { size_gib: 1 }),
    };
    let object = sim.create(&order).await?;
    loop {
        tokio::time::sleep(pause).await;
        let seen = sim.read(Kind::Volume, &object.reference).await?;
        if seen.is_some_and(|seen| seen.state == ObjectState::Ready) {
            break;
        }
    }
    let mut tx = db.begin().await?;
    sqlx::query("INSERT INTO made VALUES ($1, $2)").bind(resource).bind(object.reference).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(())
}

/// Starts servers and measures how long they take to provision `count` volumes.
fn ours(
    runtime: &tokio::runtime::Runtime,
    folder: &Path,
    database: &str,
    (count, servers): (usize, usize),
) -> Result<Duration> {
    let (_, project) = bootstrap(folder, database)?;
    let db = {
        let _guard = runtime.enter();
        db::pool(db::options_from_url(database)?, 2)
    };
    let project: ProjectId = project.parse().map_err(|_| "no project")?;
    let deployment = Deployment::new(folder, database)?;
    let start = |number| deployment.start(&format!("{count}-{servers}-{number}"));
    let _running = (0..servers).map(start).collect::<Result<Vec<_>>>()?;
    runtime.block_on(async {
        send(&db, project, count).await?;
        let began = Instant::now();
        loop {
            let left: i64 =
                sqlx::query_scalar("SELECT count(*) FROM operations WHERE due_at IS NOT NULL").fetch_one(&*db).await?;
            if left == 0 {
                break;
            }
            if began.elapsed() > CONVERGE_TIMEOUT {
                return Err(format!("{left} operations were unfinished after {CONVERGE_TIMEOUT:?}").into());
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        let took = began.elapsed();
        let active: i64 =
            sqlx::query_scalar("SELECT count(*) FROM resources WHERE phase = 'active'").fetch_one(&*db).await?;
        if usize::try_from(active)? != count {
            return Err(format!("{active} of {count} resources are active").into());
        }
        Ok(took)
    })
}

/// Inserts resources and their operations as that many requests would, in one transaction.
async fn send(db: &Pool, project: ProjectId, count: usize) -> Result<()> {
    let ids: Vec<ResourceId> = (0..count).map(|_| ResourceId::new()).collect();
    let operations: Vec<OperationId> = (0..count).map(|_| OperationId::new()).collect();
    let mut tx = db.begin().await?;
    sqlx::query(
        "INSERT INTO resources (id, project_id, kind, provider, name, labels, spec, protection, reconcile, created_at)
         SELECT id, $1, 'storage.volume', 'sim', 'bench', '{}', '{\"size_gib\": 1}', false, 'observe', now()
         FROM unnest($2::uuid[]) AS id",
    )
    .bind(project)
    .bind(&ids)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "INSERT INTO operations (id, project_id, resource_id, resource_kind, provider, type, created_at, deadline)
         SELECT o.id, $1, o.resource, 'storage.volume', 'sim', 'create', now(), now() + interval '15 minutes'
         FROM unnest($2::uuid[], $3::uuid[]) AS o (id, resource)",
    )
    .bind(project)
    .bind(operations)
    .bind(ids)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(())
}
