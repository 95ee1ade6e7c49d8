//! Servers that die in the middle of operations at providers: the simulated provider, and moto's server, which emulates
//! AWS, if it is available.

use std::sync::Arc;

use futures_util::future::{BoxFuture, LocalBoxFuture};

use crate::{
    harness::{
        client::Client,
        faults::{Fault, plan},
        http::Request,
        moto,
        run::{self, Scale, Trial},
    },
    invariants::{
        Invariant, RunEnd, Verdict, converged::Converged, quiet::Quiet, recorded::Recorded, responses::Responses,
    },
    servers::cluster::Cluster,
};

const NODES: usize = 3;

/// Clients without resources. They are served while a write on a resource waits for the leftovers of a dead server.
pub struct BackgroundLoad(pub Request);

impl Invariant for BackgroundLoad {
    fn clients(&self) -> usize {
        2
    }

    fn act<'a>(&'a self, client: &'a mut Client) -> BoxFuture<'a, ()> {
        Box::pin(async {
            let node = client.any_node();
            client.send_unlogged(node, &self.0).await;
            tokio::time::sleep(client.random.millis(20, 80)).await;
        })
    }

    fn check<'a>(&'a self, _: &'a RunEnd<'a>) -> LocalBoxFuture<'a, Verdict> {
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
    let scale = Scale::from_env();
    let _share = run::busy(scale).await;
    let cluster = Cluster::start_with_fast_engine(NODES, SIM).await;
    run_with(cluster, scale, SIM, "sim").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_resource_has_one_object_at_a_provider_that_is_none_of_ours() {
    let scale = Scale::from_env();
    let _share = run::busy(scale).await;
    // Without moto, a message is printed.
    let Some(moto) = moto::start(&[]) else { return };
    let endpoint = &moto.url;
    let providers = format!(
        "[[provider]]\nname = 'moto'\ndriver = 'aws'\nregion = 'eu-central-1'\nendpoint = '{endpoint}'\n\
         images = {{ debian-12 = 'ami-12c6146b' }}\n"
    );
    let cluster = Cluster::start_with_fast_engine(NODES, &providers).await;
    run_with(cluster, scale, &providers, "moto").await;
}

async fn run_with(mut cluster: Cluster, scale: Scale, providers: &str, provider: &'static str) {
    // Short runs only kill servers; the storm covers other faults.
    let faults: Vec<Fault> = match scale.kills {
        0..=4 => plan(scale.seed, NODES, scale.kills).into_iter().filter(Fault::is_kill_of_node).collect(),
        _ => plan(scale.seed, NODES, scale.kills),
    };
    let converged = Converged::new(&cluster, providers, provider).await;
    let background_load = BackgroundLoad(cluster.request("GET", "/v1/projects?limit=1", None));
    let invariants: Vec<Arc<dyn Invariant>> =
        vec![Arc::new(Quiet), Arc::new(converged), Arc::new(background_load), Arc::new(Responses), Arc::new(Recorded)];
    let trial =
        Trial { seed: scale.seed, faults, invariants, timeout: 300..3000, work: run::MIN_RESPONSES, last: vec![] };
    run::run(&mut cluster, trial).await;
}
