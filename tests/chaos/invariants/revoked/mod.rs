//! Revocation: once a revocation is acknowledged, no node accepts the credential in any request that begins later.
//! Until the revocation is requested, no node refuses the credential.

mod stats;
pub mod victim;

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use futures_util::future::{BoxFuture, LocalBoxFuture, join, join_all};
use tokio::sync::watch;

pub use self::stats::spread;
use self::{
    stats::{Revocation, RevocationStats, Sample},
    victim::{CredentialFactory, ProbeResult, Victim},
};
use super::{Invariant, RunEnd, Verdict};
use crate::{harness::client::Client, servers::cluster::Cluster};

/// How long clients wait for a response: longer than any pause, so that the response of a node that continues is seen,
/// and longer than a revocation that waits for a hanging node.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(12);

/// Milliseconds after the response to a revocation at which each node is asked again: immediately, because a node that
/// did not confirm would notice a moment later, and later, because the revocation must not be undone.
const PROBE_DELAYS_MS: [u64; 3] = [0, 40, 400];

pub struct Revoked {
    factory: CredentialFactory,
    clients: usize,
    /// How many revocations are required.
    required: usize,
    stats: Mutex<RevocationStats>,
}

impl Revoked {
    pub async fn new(cluster: &Cluster, clients: usize, required: usize) -> Self {
        Self { factory: CredentialFactory::new(cluster).await, clients, required, stats: Mutex::default() }
    }

    pub fn count(&self) -> usize {
        self.stats.lock().unwrap().count()
    }
}

/// Asks one node repeatedly whether it accepts the victim, until some time after `revoked_at` reports the revocation.
async fn watch_node(
    mut client: Client,
    node: usize,
    victim: &Victim,
    mut revoked_at: watch::Receiver<Option<Instant>>,
) -> Vec<Sample> {
    let mut samples = Vec::new();
    while revoked_at.borrow_and_update().is_none() {
        let probe = client.random.below(victim.probes.len());
        // A request that is pending at a hanging node proves nothing: the next request is the one that counts.
        tokio::select! {
            asked = client.probe(node, &victim.probes[probe].request) => samples.push(Sample::new(victim, probe, asked)),
            _ = revoked_at.changed() => break,
        }
        let pause = client.random.millis(50, 500);
        let _ = tokio::time::timeout(pause, revoked_at.changed()).await;
    }
    for after in PROBE_DELAYS_MS {
        tokio::time::sleep(Duration::from_millis(after)).await;
        for probe in 0..victim.probes.len() {
            let asked = client.probe(node, &victim.probes[probe].request).await;
            samples.push(Sample::new(victim, probe, asked));
        }
    }
    samples
}

impl Invariant for Revoked {
    fn clients(&self) -> usize {
        self.clients
    }

    fn act<'a>(&'a self, client: &'a mut Client) -> BoxFuture<'a, ()> {
        Box::pin(async {
            client.timeout = RESPONSE_TIMEOUT;
            let victim = self.factory.make(client).await;
            let mut samples = Vec::new();
            // Used on some nodes only, so that it is cached on some and not on others.
            for node in 0..client.node_count() {
                if client.random.percent(80) {
                    let probe = client.random.below(victim.probes.len());
                    let asked = client.probe(node, &victim.probes[probe].request).await;
                    samples.push(Sample::new(&victim, probe, asked));
                }
            }
            let (sender, revoked_at) = watch::channel(None);
            let watchers: Vec<_> = (0..client.node_count()).map(|node| (node, client.fork())).collect();
            let asked_for = Instant::now();
            let revoking = async {
                let asked = client.send_until_final_timed(&victim.end).await;
                let _ = sender.send(Some(asked.received_at));
                asked
            };
            let watching = watchers.into_iter().map(|(node, mut watcher)| {
                watcher.timeout = RESPONSE_TIMEOUT;
                watch_node(watcher, node, &victim, revoked_at.clone())
            });
            let (acknowledged, seen) = join(revoking, join_all(watching)).await;
            samples.extend(seen.into_iter().flatten());
            self.stats.lock().unwrap().add(Revocation { victim, asked_for, acknowledged, samples });
        })
    }

    fn is_exercised(&self) -> bool {
        self.count() >= self.required
    }

    fn check<'a>(&'a self, end: &'a RunEnd<'a>) -> LocalBoxFuture<'a, Verdict> {
        Box::pin(async {
            let mut client = end.cluster.client(0);
            let mut stats = std::mem::take(&mut *self.stats.lock().unwrap());
            // Later events must not undo a revocation.
            for victim in std::mem::take(&mut stats.remembered) {
                for node in 0..client.node_count() {
                    for probe in &victim.probes {
                        let response = client.probe(node, &probe.request).await.response;
                        let result = response.as_ref().map(|response| probe.read(response));
                        stats.verdict.require(result == Some(ProbeResult::Refused), || {
                            format!("at the end, {} was not refused by node {node}: {response:?}", victim.kind)
                        });
                    }
                }
            }
            stats.into_verdict()
        })
    }
}
