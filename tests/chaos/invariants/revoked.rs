//! Revocation: once a revocation is acknowledged, no node accepts the credential in any request that begins later. Until the
//! revocation is requested, no node refuses the credential.

mod tally;
pub mod victim;

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use futures_util::future::{BoxFuture, LocalBoxFuture, join, join_all};
use tokio::sync::watch;

pub use self::tally::spread;
use self::{
    tally::{Revocation, Sample, Tally},
    victim::{Maker, Said, Victim},
};
use super::{End, Invariant, Verdict};
use crate::{client::Client, world::World};

/// How long clients wait for a response: longer than any pause, so that the response of a node that continues is seen, and
/// longer than a revocation that waits for a hanging node.
pub const PATIENCE: Duration = Duration::from_secs(12);

/// Milliseconds after the response to a revocation at which each node is asked again: immediately, because a node that did
/// not confirm would notice a moment later, and later, because the revocation must not be undone.
const AFTER: [u64; 3] = [0, 40, 400];

pub struct Revoked {
    maker: Maker,
    clients: usize,
    /// How many revocations are required.
    wanted: usize,
    tally: Mutex<Tally>,
}

impl Revoked {
    pub async fn new(world: &World, clients: usize, wanted: usize) -> Self {
        Self { maker: Maker::new(world).await, clients, wanted, tally: Mutex::default() }
    }

    pub fn count(&self) -> usize {
        self.tally.lock().unwrap().count()
    }
}

/// Asks one node repeatedly whether it accepts the victim, until some time after `told` reports the revocation.
async fn watch_node(
    mut client: Client,
    node: usize,
    victim: &Victim,
    mut told: watch::Receiver<Option<Instant>>,
) -> Vec<Sample> {
    let mut samples = Vec::new();
    while told.borrow_and_update().is_none() {
        let sign = client.random.below(victim.signs.len());
        // A request that is pending at a hanging node proves nothing: the next request is the one that counts.
        tokio::select! {
            asked = client.probe(node, &victim.signs[sign].request) => samples.push(Sample::new(victim, sign, asked)),
            _ = told.changed() => break,
        }
        let pause = client.random.millis(50, 500);
        let _ = tokio::time::timeout(pause, told.changed()).await;
    }
    for after in AFTER {
        tokio::time::sleep(Duration::from_millis(after)).await;
        for sign in 0..victim.signs.len() {
            let asked = client.probe(node, &victim.signs[sign].request).await;
            samples.push(Sample::new(victim, sign, asked));
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
            client.patience = PATIENCE;
            let victim = self.maker.make(client).await;
            let mut samples = Vec::new();
            // Used on some nodes only, so that it is cached on some and not on others.
            for node in 0..client.node_count() {
                if client.random.percent(80) {
                    let sign = client.random.below(victim.signs.len());
                    let asked = client.probe(node, &victim.signs[sign].request).await;
                    samples.push(Sample::new(&victim, sign, asked));
                }
            }
            let (tell, told) = watch::channel(None);
            let witnesses: Vec<_> = (0..client.node_count()).map(|node| (node, client.fork())).collect();
            let asked_for = Instant::now();
            let revoking = async {
                let asked = client.insist_timed(&victim.end).await;
                let _ = tell.send(Some(asked.over));
                asked
            };
            let watching = witnesses.into_iter().map(|(node, mut witness)| {
                witness.patience = PATIENCE;
                watch_node(witness, node, &victim, told.clone())
            });
            let (answered, seen) = join(revoking, join_all(watching)).await;
            samples.extend(seen.into_iter().flatten());
            self.tally.lock().unwrap().add(Revocation { victim, asked_for, answered, samples });
        })
    }

    fn is_tried(&self) -> bool {
        self.count() >= self.wanted
    }

    fn check<'a>(&'a self, end: &'a End<'a>) -> LocalBoxFuture<'a, Verdict> {
        Box::pin(async {
            let mut client = end.world.client(0);
            let mut tally = std::mem::take(&mut *self.tally.lock().unwrap());
            // Later events must not undo a revocation.
            for victim in std::mem::take(&mut tally.remembered) {
                for node in 0..client.node_count() {
                    for sign in &victim.signs {
                        let answer = client.probe(node, &sign.request).await.answer;
                        let said = answer.as_ref().map(|answer| sign.read(answer));
                        tally.verdict.require(said == Some(Said::Refused), || {
                            format!("at the end, {} was not refused by node {node}: {answer:?}", victim.kind)
                        });
                    }
                }
            }
            tally.into_verdict()
        })
    }
}
