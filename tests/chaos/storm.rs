//! All kinds of faults, for as long as the environment asks for.

use std::{sync::Arc, time::Duration};

use crate::{
    faults::{Fault, plan},
    invariants::{
        Invariant, answers::Answers, delivered::Delivered, followed::Followed, once::Once, quiet::Quiet, told::Told,
    },
    run::{self, Scale, Trial},
    world::World,
};

const NODES: usize = 3;
const CLIENTS: usize = 8;

/// The invariants of requests and responses. Add new ones here.
fn invariants(world: &World) -> Vec<Arc<dyn Invariant>> {
    let clients = Once::new(&world.credentials, CLIENTS);
    // `Quiet` first: the others count, and need a quiet database.
    vec![Arc::new(Quiet), Arc::new(clients), Arc::new(Answers), Arc::new(Told)]
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_acknowledged_writes_take_effect_once_and_are_audited_and_all_nodes_serve_again() {
    let _alone = run::alone().await;
    let scale = Scale::from_env();
    let mut world = World::start_sending_soon(NODES).await;
    let faults = plan(scale.seed, NODES, scale.kills);
    let mut invariants = invariants(&world);
    // After the others, which still send requests in their checks.
    invariants.push(Arc::new(Delivered::new(&world, scale.seed).await));
    invariants.push(Arc::new(Followed::new(&world.credentials)));
    // Some clients time out on a server that is only stopped, and try another one before the first continues.
    let trial = Trial { seed: scale.seed, faults, invariants, patience: 100..3000, work: run::WORK, last: vec![] };
    run::run(&mut world, trial).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_restart_under_load_causes_only_503_and_every_node_serves_within_five_seconds() {
    let _alone = run::alone().await;
    let scale = Scale::from_env();
    let mut world = World::start(NODES).await;
    let restart = |n: usize| {
        let down = Duration::from_millis(100 * (n as u64 % 5));
        if n.is_multiple_of(2) { Fault::StopPostgres { down } } else { Fault::KillPostgres { down } }
    };
    let faults: Vec<Fault> = (0..2.max(scale.kills / 10)).map(restart).collect();
    let invariants = invariants(&world);
    let trial = Trial { seed: scale.seed, faults, invariants, patience: 20_000..30_000, work: run::WORK, last: vec![] };
    run::run(&mut world, trial).await;
    // No server was down, so every request has a complete response.
    let log = world.field.log();
    let unknown: Vec<_> = log.iter().filter(|entry| entry.answer.is_none()).collect();
    assert!(unknown.is_empty(), "without a complete response: {unknown:#?}");
}
