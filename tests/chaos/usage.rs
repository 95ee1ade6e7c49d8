//! Usage, on real processes: what is counted is what was asked, whatever fails and whatever the clocks say.
//! `CHAOS_KILLS` says how many servers are killed.

use std::sync::Arc;

use crate::{
    faults::{all_killed_next_month, next_month, plan_around_flushes, there_and_back},
    invariants::{Invariant, counted::Counted, quiet::Quiet},
    run::{self, Scale, Trial},
    world::World,
};

const NODES: usize = 3;
const CLIENTS: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_each_acknowledged_request_is_counted_once_and_none_that_was_not_received() {
    let _alone = run::alone().await;
    let scale = Scale::from_env();
    let mut world = World::start_before_the_months_end(NODES).await;
    let counted = Arc::new(Counted::new(&world, CLIENTS).await);
    let trial = |faults, last| {
        let invariants: Vec<Arc<dyn Invariant>> = vec![Arc::new(Quiet), counted.clone()];
        Trial { seed: scale.seed, faults, invariants, patience: 100..3000, work: run::WORK, last }
    };
    println!(
        "nothing fails but that each flush is sent twice and clocks are set: all is acknowledged, so none may lack"
    );
    run::run(&mut world, trial(there_and_back(NODES), next_month(NODES))).await;
    println!("servers are killed besides, and at the end all of them");
    let faults = plan_around_flushes(scale.seed, NODES, scale.kills);
    run::run(&mut world, trial(faults, all_killed_next_month(NODES))).await;
}
