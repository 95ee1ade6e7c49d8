//! Servers that die in the middle of operations at providers: the simulated provider, and moto's server, which emulates AWS,
//! if it is available.

use std::sync::Arc;

use futures_util::future::{BoxFuture, LocalBoxFuture};

use crate::{
    client::Client,
    faults::{Fault, plan},
    http::Request,
    invariants::{End, Invariant, Verdict, answers::Answers, converged::Converged, quiet::Quiet, told::Told},
    moto,
    run::{self, Scale, Trial},
    world::World,
};

const NODES: usize = 3;

/// Clients without resources. They are served while a write on a resource waits for the leftovers of a dead server.
pub struct Company(pub Request);

impl Invariant for Company {
    fn clients(&self) -> usize {
        2
    }

    fn act<'a>(&'a self, client: &'a mut Client) -> BoxFuture<'a, ()> {
        Box::pin(async {
            let node = client.any_node();
            client.ask_unlogged(node, &self.0).await;
            tokio::time::sleep(client.random.millis(20, 80)).await;
        })
    }

    fn check<'a>(&'a self, _: &'a End<'a>) -> LocalBoxFuture<'a, Verdict> {
        Box::pin(async { Verdict::default() })
    }
}

/// Slow enough to be killed in the middle of a call. One call in twenty fails, or succeeds and reports a failure.
const SIM: &str = "
[[provider]]
name = 'sim'
driver = 'sim'
latency_min_ms = 20
latency_max_ms = 250
failures_per_mille = 50
";

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_each_resource_has_one_object_and_there_are_no_others() {
    let _alone = run::alone().await;
    let scale = Scale::from_env();
    let world = World::start_converging_soon(NODES, SIM).await;
    try_with(world, scale, SIM, "sim").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_resource_has_one_object_at_a_provider_that_is_none_of_ours() {
    let _alone = run::alone().await;
    let scale = Scale::from_env();
    // Without moto, a message is printed.
    let Some(moto) = moto::start(&[]) else { return };
    let endpoint = &moto.url;
    let providers = format!(
        "[[provider]]\nname = 'moto'\ndriver = 'aws'\nregion = 'eu-central-1'\nendpoint = '{endpoint}'\n\
         images = {{ debian-12 = 'ami-12c6146b' }}\n"
    );
    let world = World::start_converging_soon(NODES, &providers).await;
    try_with(world, scale, &providers, "moto").await;
}

async fn try_with(mut world: World, scale: Scale, providers: &str, provider: &'static str) {
    // Short runs only kill servers; the storm covers other faults.
    let faults: Vec<Fault> = match scale.kills {
        0..=4 => plan(scale.seed, NODES, scale.kills).into_iter().filter(Fault::is_kill_of_node).collect(),
        _ => plan(scale.seed, NODES, scale.kills),
    };
    let converged = Converged::new(&world, providers, provider).await;
    let company = Company(world.request("GET", "/v1/projects?limit=1", None));
    let invariants: Vec<Arc<dyn Invariant>> =
        vec![Arc::new(Quiet), Arc::new(converged), Arc::new(company), Arc::new(Answers), Arc::new(Told)];
    let trial = Trial { seed: scale.seed, faults, invariants, patience: 300..3000, work: run::WORK, last: vec![] };
    run::run(&mut world, trial).await;
}
