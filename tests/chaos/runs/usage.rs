//! Usage on real processes: the counters match the requests that were sent, despite failures and clock changes.
//! `CHAOS_KILLS` sets how many servers are killed.

use std::sync::Arc;

use crate::{
    harness::{
        faults::{all_killed_next_month, next_month, plan_around_flushes, there_and_back},
        run::{self, Scale, Trial},
    },
    invariants::{Invariant, counted::Counted, quiet::Quiet},
    servers::cluster::Cluster,
};

const NODES: usize = 3;
const CLIENTS: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_acknowledged_requests_are_counted_once_and_unreceived_ones_never() {
    let scale = Scale::from_env();
    let _share = run::busy(scale).await;
    let mut cluster = Cluster::start_before_the_months_end(NODES).await;
    let counted = Arc::new(Counted::new(&cluster, CLIENTS).await);
    let trial = |faults, last| {
        let invariants: Vec<Arc<dyn Invariant>> = vec![Arc::new(Quiet), counted.clone()];
        Trial { seed: scale.seed, faults, invariants, timeout: 100..3000, work: run::MIN_RESPONSES, last }
    };
    println!("each flush is sent twice and clocks are set; nothing else fails, so all requests are acknowledged");
    run::run(&mut cluster, trial(there_and_back(NODES), next_month(NODES))).await;
    println!("servers are also killed, and at the end all of them");
    let faults = plan_around_flushes(scale.seed, NODES, scale.kills);
    run::run(&mut cluster, trial(faults, all_killed_next_month(NODES))).await;
}
