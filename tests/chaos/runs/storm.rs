//! All kinds of faults, for as long as the environment asks for.

use std::{sync::Arc, time::Duration};

use crate::{
    harness::{
        faults::{Fault, plan},
        run::{self, Scale, Trial},
    },
    invariants::{
        Invariant, delivered::Delivered, followed::Followed, idempotent::Idempotent, quiet::Quiet, recorded::Recorded,
        responses::Responses,
    },
    servers::cluster::Cluster,
};

const NODES: usize = 3;
const CLIENTS: usize = 8;

/// The invariants of requests and responses. Add new ones here.
fn invariants(cluster: &Cluster) -> Vec<Arc<dyn Invariant>> {
    let clients = Idempotent::new(&cluster.credentials, CLIENTS);
    // `Quiet` first: the others count, and need a quiet database.
    vec![Arc::new(Quiet), Arc::new(clients), Arc::new(Responses), Arc::new(Recorded)]
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_acknowledged_writes_take_effect_once_and_are_audited_and_all_nodes_serve_again() {
    let scale = Scale::from_env();
    let _share = run::busy(scale).await;
    let mut cluster = Cluster::start_with_fast_deliveries(NODES).await;
    let faults = plan(scale.seed, NODES, scale.kills);
    let mut invariants = invariants(&cluster);
    // After the others, which still send requests in their checks.
    invariants.push(Arc::new(Delivered::new(&cluster, scale.seed).await));
    invariants.push(Arc::new(Followed::new(&cluster.credentials)));
    // Some clients time out on a server that is only stopped, and try another one before the first continues.
    let trial =
        Trial { seed: scale.seed, faults, invariants, timeout: 100..3000, work: run::MIN_RESPONSES, last: vec![] };
    run::run(&mut cluster, trial).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_restart_under_load_causes_only_503_and_every_node_serves_within_five_seconds() {
    let scale = Scale::from_env();
    let _share = run::busy(scale).await;
    let mut cluster = Cluster::start(NODES).await;
    let restart = |n: usize| {
        let down = Duration::from_millis(100 * (n as u64 % 5));
        if n.is_multiple_of(2) { Fault::StopPostgres { down } } else { Fault::KillPostgres { down } }
    };
    let faults: Vec<Fault> = (0..2.max(scale.kills / 10)).map(restart).collect();
    let invariants = invariants(&cluster);
    let trial =
        Trial { seed: scale.seed, faults, invariants, timeout: 20_000..30_000, work: run::MIN_RESPONSES, last: vec![] };
    run::run(&mut cluster, trial).await;
    // No server was down, so every request has a complete response.
    let log = cluster.run_state.log();
    let unknown: Vec<_> = log.iter().filter(|entry| entry.response.is_none()).collect();
    assert!(unknown.is_empty(), "without a complete response: {unknown:#?}");
}
