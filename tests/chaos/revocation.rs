//! Revocation on real processes: once a revocation is acknowledged, no node accepts the credential, regardless of faults.
//! `CHAOS_REVOCATIONS` sets how many credentials are revoked.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cloudapi::auth::lease::Timing;
use futures_util::future::join_all;
use nix::sys::signal::Signal;

use crate::{
    client::Client,
    faults::plan_around_leases,
    http::{Answer, Connection},
    invariants::{
        Invariant,
        answers::{Answers, is_fit},
        quiet::Quiet,
        revoked::{
            PATIENCE, Revoked, spread,
            victim::{Made, Maker, Said, Sign},
        },
    },
    proxy::{Proxy, Weather},
    run::{self, Scale, Trial},
    world::{World, eventually},
};

const NODES: usize = 3;
const CLIENTS: usize = 48;

/// How long a revocation may take when a node cannot confirm it: W, plus a margin for slow machines beyond the half second
/// that it needs.
pub const BOUND: Duration = Timing::USUAL.wait.saturating_add(Duration::from_secs(2));

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_only_revoked_credentials_are_refused_and_none_is_accepted_afterwards() {
    let _alone = run::alone().await;
    let scale = Scale::from_env();
    let mut world = World::start(NODES).await;
    let faults = plan_around_leases(scale.seed, NODES, scale.revocations);
    healthy_revocations(&world, (scale.revocations / 10).clamp(40, 1000)).await;
    let revoked = Arc::new(Revoked::new(&world, CLIENTS, scale.revocations).await);
    let invariants: Vec<Arc<dyn Invariant>> = vec![Arc::new(Quiet), revoked, Arc::new(Answers)];
    // A revocation takes three responses, including those that create its credential. About half of the revocations happen
    // during faults, and each client has one in progress.
    let work = scale.revocations.saturating_sub(CLIENTS) * 3 / 2 / faults.len();
    let patience = 1000..2000;
    run::run(&mut world, Trial { seed: scale.seed, faults, invariants, patience, work, last: vec![] }).await;
}

/// Measures revocations without faults.
async fn healthy_revocations(world: &World, count: usize) {
    let mut bench = Bench::new(world).await;
    let mut times = Vec::new();
    for n in 0..count {
        let key = bench.known_key().await;
        times.push(Bench::revoke(bench.client.fork(), &bench.maker, &key, n % NODES).await);
        refused_everywhere(&mut bench, &key).await;
    }
    println!("with all nodes healthy, response time of revocations: {}", spread(&mut times));
    // Nodes are notified; they do not wait for their poll, once a second. With few samples, the maximum depends on the
    // machine, but none may wait for a lease.
    assert!(times[times.len() / 2] < Duration::from_millis(250), "{times:?}");
    assert!(times[times.len() * 99 / 100] < Timing::USUAL.lease, "{times:?}");
}

/// Shared setup of the tests.
pub struct Bench {
    pub client: Client,
    pub maker: Maker,
}

impl Bench {
    pub async fn new(world: &World) -> Self {
        let mut client = world.client(1);
        client.patience = PATIENCE;
        // Before that, a node caches nothing.
        eventually("each node has a lease", async || {
            (world.log_lines("lease acquired; credential cache enabled").len() >= NODES).then_some(())
        })
        .await;
        Self { client, maker: Maker::new(world).await }
    }

    /// A key that every node has authenticated, and therefore cached.
    pub async fn known_key(&mut self) -> Made {
        let key = self.maker.key(&mut self.client, None).await;
        let sign = self.maker.is_active(&key);
        for node in 0..self.client.node_count() {
            assert_eq!(self.ask(node, &sign).await.0, Said::Accepted);
        }
        key
    }

    pub async fn ask(&mut self, node: usize, sign: &Sign) -> (Said, Answer) {
        let answer = self.client.probe(node, &sign.request).await.answer.expect("a response");
        (sign.read(&answer), answer)
    }

    /// Revokes a key at a node. Returns how long the response took.
    async fn revoke(mut client: Client, maker: &Maker, key: &Made, node: usize) -> Duration {
        client.patience = PATIENCE;
        let asked = client.probe(node, &maker.delete("keys", key)).await;
        let answer = asked.answer.expect("a response");
        assert_eq!(answer.status, 200, "{answer:?}");
        asked.over - asked.begun
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_waits_for_lease_of_stopped_node_which_then_refuses_the_revoked_key() {
    let _beside = run::beside().await;
    let world = World::start(NODES).await;
    let mut bench = Bench::new(&world).await;
    let mut keys = Vec::new();
    for _ in 0..8 {
        keys.push(bench.known_key().await);
    }
    world.signal_node(1, Signal::SIGSTOP);
    // Each key is revoked twice: a repeated revocation waits as long.
    let revoking = keys.iter().flat_map(|key| [(key, 0), (key, 2)]);
    let revoking: Vec<_> = revoking.map(|(key, node)| (bench.client.fork(), key, node)).collect();
    let maker = &bench.maker;
    let mut times =
        join_all(revoking.into_iter().map(|(client, key, node)| Bench::revoke(client, maker, key, node))).await;

    // These requests arrive while the node is stopped, and are answered when it continues.
    let mut waiting: Vec<(Sign, Connection)> = Vec::new();
    for key in &keys {
        let sign = bench.maker.is_active(key);
        let (_, mut connection) = bench.client.connect(1).await.expect("a listening node");
        connection.send(&sign.request).await.unwrap();
        waiting.push((sign, connection));
    }
    world.signal_node(1, Signal::SIGCONT);
    for (sign, mut connection) in waiting {
        let answer = connection.receive().await.unwrap();
        assert_ne!(sign.read(&answer), Said::Accepted, "{answer:?}");
        assert!(is_fit(&answer), "{answer:?}");
    }
    println!("with a stopped node, response time of revocations: {}", spread(&mut times));
    assert!(times.iter().all(|time| *time >= Timing::USUAL.wait), "not all waited: {times:?}");
    assert!(times.iter().all(|time| *time < BOUND), "{times:?}");
    // The node takes part again: it confirms new revocations.
    eventually("the stopped node confirms a revocation", async || {
        let key = bench.known_key().await;
        let time = Bench::revoke(bench.client.fork(), &bench.maker, &key, 0).await;
        (time < Timing::USUAL.lease).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_without_postgresql_serves_from_its_cache_until_its_lease_expires_and_then_returns_503() {
    let _beside = run::beside().await;
    let world = World::start(NODES).await;
    let mut bench = Bench::new(&world).await;
    let (revoked, kept) = (bench.known_key().await, bench.known_key().await);
    let (of_revoked, of_kept) = (&bench.maker.is_active(&revoked), &bench.maker.is_active(&kept));
    // One node cannot send to PostgreSQL, the other receives no responses.
    let (deaf, mute) = (1, 2);
    world.proxies[deaf].set(Weather::Refusing);
    world.proxies[deaf].cut();
    world.proxies[mute].set(Weather::Mute);
    for node in [deaf, mute] {
        assert_eq!(bench.ask(node, of_kept).await.0, Said::Accepted, "from the cache of node {node}");
    }
    let time = Bench::revoke(bench.client.fork(), &bench.maker, &revoked, 0).await;
    println!("with two unreachable nodes, response time of the revocation: {time:?}");
    assert!(time < BOUND, "{time:?}");
    let begun = Instant::now();
    let asking = [(deaf, of_revoked), (deaf, of_kept), (mute, of_revoked), (mute, of_kept)];
    let asking = asking.map(|(node, sign)| (node, sign, bench.client.fork()));
    join_all(asking.map(|(node, sign, mut client)| async move {
        client.patience = PATIENCE;
        let answer = client.probe(node, &sign.request).await.answer.expect("a response");
        assert_eq!((answer.status, answer.code().as_str()), (503, "auth_unavailable"), "node {node}: {answer:?}");
        assert!(is_fit(&answer), "{answer:?}");
        println!("node {node} returned 503 after {:?}", begun.elapsed());
    }))
    .await;
    for node in [deaf, mute] {
        world.proxies[node].set(Weather::Fair);
        eventually(&format!("node {node} recovers"), async || {
            (bench.ask(node, of_kept).await.0 == Said::Accepted).then_some(())
        })
        .await;
        assert_eq!(bench.ask(node, of_revoked).await.0, Said::Refused);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_takes_about_a_second_if_every_notification_is_lost() {
    let _beside = run::beside().await;
    let world = World::start(NODES).await;
    let mut bench = Bench::new(&world).await;
    let mut keys = Vec::new();
    for _ in 0..12 {
        keys.push(bench.known_key().await);
    }
    world.proxies.iter().for_each(|proxy| proxy.set(Weather::Unnotified));
    let revoking: Vec<_> = keys
        .iter()
        .enumerate()
        .map(|(n, key)| (bench.client.random.millis(0, 1000), bench.client.fork(), key, n % NODES))
        .collect();
    let maker = &bench.maker;
    // Each starts at another point of the nodes' one-second polling interval.
    let revoking = revoking.into_iter().map(|(at, client, key, node)| async move {
        tokio::time::sleep(at).await;
        Bench::revoke(client, maker, key, node).await
    });
    let mut times = join_all(revoking).await;
    println!("with every notification lost, response time of revocations: {}", spread(&mut times));
    assert!(times.iter().all(|time| *time < Timing::USUAL.lease), "{times:?}");
    for key in &keys {
        refused_everywhere(&mut bench, key).await;
    }
    let lost: usize = world.proxies.iter().map(Proxy::lost_notifications).sum();
    assert!(lost >= keys.len(), "only {lost} notifications were lost");
}

async fn refused_everywhere(bench: &mut Bench, key: &Made) {
    let sign = bench.maker.is_active(key);
    for node in 0..NODES {
        assert_eq!(bench.ask(node, &sign).await.0, Said::Refused, "by node {node}");
    }
}
