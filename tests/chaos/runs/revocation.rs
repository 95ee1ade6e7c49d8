//! Revocation on real processes: once a revocation is acknowledged, no node accepts the credential, regardless of
//! faults. `CHAOS_REVOCATIONS` sets how many credentials are revoked.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cloudapi::auth::revocation::lease::Timing;
use futures_util::future::join_all;
use nix::sys::signal::Signal;

use crate::{
    harness::{
        client::Client,
        faults::plan_around_leases,
        http::{Connection, Response},
        run::{self, Scale, Trial},
    },
    invariants::{
        Invariant,
        quiet::Quiet,
        responses::{Responses, is_acceptable},
        revoked::{
            RESPONSE_TIMEOUT, Revoked, spread,
            victim::{Created, CredentialFactory, Probe, ProbeResult},
        },
    },
    proxy::{NetworkCondition, Proxy},
    servers::cluster::{Cluster, eventually},
};

const NODES: usize = 3;
const CLIENTS: usize = 48;

/// How long a revocation may take when a node cannot confirm it: W, plus a margin for slow machines beyond the half
/// second that it needs.
pub const BOUND: Duration = Timing::DEFAULT.wait.saturating_add(Duration::from_secs(2));

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_only_revoked_credentials_are_refused_and_none_is_accepted_afterwards() {
    let scale = Scale::from_env();
    let _share = run::busy(scale).await;
    let mut cluster = Cluster::start(NODES).await;
    let faults = plan_around_leases(scale.seed, NODES, scale.revocations);
    healthy_revocations(&cluster, (scale.revocations / 10).clamp(40, 1000)).await;
    let revoked = Arc::new(Revoked::new(&cluster, CLIENTS, scale.revocations).await);
    let invariants: Vec<Arc<dyn Invariant>> = vec![Arc::new(Quiet), revoked, Arc::new(Responses)];
    // A revocation takes three responses, including those that create its credential. About half of the revocations
    // happen during faults, and each client has one in progress.
    let work = scale.revocations.saturating_sub(CLIENTS) * 3 / 2 / faults.len();
    let timeout = 1000..2000;
    run::run(&mut cluster, Trial { seed: scale.seed, faults, invariants, timeout, work, last: vec![] }).await;
}

/// Measures revocations without faults.
async fn healthy_revocations(cluster: &Cluster, count: usize) {
    let mut fixture = Fixture::new(cluster).await;
    let mut times = Vec::new();
    for n in 0..count {
        let key = fixture.known_key().await;
        times.push(Fixture::revoke(fixture.client.fork(), &fixture.factory, &key, n % NODES).await);
        refused_everywhere(&mut fixture, &key).await;
    }
    println!("with all nodes healthy, response time of revocations: {}", spread(&mut times));
    // Nodes are notified; they do not wait for their poll, once a second. With few samples, the maximum depends on the
    // machine, but none may wait for a lease.
    assert!(times[times.len() / 2] < Duration::from_millis(250), "{times:?}");
    assert!(times[times.len() * 99 / 100] < Timing::DEFAULT.lease, "{times:?}");
}

/// Shared setup of the tests.
pub struct Fixture {
    pub client: Client,
    pub factory: CredentialFactory,
}

impl Fixture {
    pub async fn new(cluster: &Cluster) -> Self {
        let mut client = cluster.client(1);
        client.timeout = RESPONSE_TIMEOUT;
        // Before that, a node caches nothing.
        eventually("each node has a lease", async || {
            (cluster.log_lines("lease acquired; credential cache enabled").len() >= NODES).then_some(())
        })
        .await;
        Self { client, factory: CredentialFactory::new(cluster).await }
    }

    /// A key that every node has authenticated, and therefore cached.
    pub async fn known_key(&mut self) -> Created {
        let key = self.factory.key(&mut self.client, None).await;
        let probe = self.factory.is_active(&key);
        for node in 0..self.client.node_count() {
            assert_eq!(self.send(node, &probe).await.0, ProbeResult::Accepted);
        }
        key
    }

    pub async fn send(&mut self, node: usize, probe: &Probe) -> (ProbeResult, Response) {
        let response = self.client.probe(node, &probe.request).await.response.expect("a response");
        (probe.read(&response), response)
    }

    /// Revokes a key at a node. Returns how long the response took.
    async fn revoke(mut client: Client, factory: &CredentialFactory, key: &Created, node: usize) -> Duration {
        client.timeout = RESPONSE_TIMEOUT;
        let asked = client.probe(node, &factory.delete("keys", key)).await;
        let response = asked.response.expect("a response");
        assert_eq!(response.status, 200, "{response:?}");
        asked.received_at - asked.sent_at
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_waits_for_lease_of_stopped_node_which_then_refuses_the_revoked_key() {
    let _share = run::waiting().await;
    let cluster = Cluster::start(NODES).await;
    let mut fixture = Fixture::new(&cluster).await;
    let mut keys = Vec::new();
    for _ in 0..8 {
        keys.push(fixture.known_key().await);
    }
    cluster.signal_node(1, Signal::SIGSTOP);
    // Each key is revoked twice: a repeated revocation waits as long.
    let revoking = keys.iter().flat_map(|key| [(key, 0), (key, 2)]);
    let revoking: Vec<_> = revoking.map(|(key, node)| (fixture.client.fork(), key, node)).collect();
    let factory = &fixture.factory;
    let mut times =
        join_all(revoking.into_iter().map(|(client, key, node)| Fixture::revoke(client, factory, key, node))).await;

    // These requests arrive while the node is stopped, and are answered when it continues.
    let mut waiting: Vec<(Probe, Connection)> = Vec::new();
    for key in &keys {
        let probe = fixture.factory.is_active(key);
        let (_, mut connection) = fixture.client.connect(1).await.expect("a listening node");
        connection.send(&probe.request).await.unwrap();
        waiting.push((probe, connection));
    }
    cluster.signal_node(1, Signal::SIGCONT);
    for (probe, mut connection) in waiting {
        let response = connection.receive().await.unwrap();
        assert_ne!(probe.read(&response), ProbeResult::Accepted, "{response:?}");
        assert!(is_acceptable(&response), "{response:?}");
    }
    println!("with a stopped node, response time of revocations: {}", spread(&mut times));
    assert!(times.iter().all(|time| *time >= Timing::DEFAULT.wait), "not all waited: {times:?}");
    assert!(times.iter().all(|time| *time < BOUND), "{times:?}");
    // The node takes part again: it confirms new revocations.
    eventually("the stopped node confirms a revocation", async || {
        let key = fixture.known_key().await;
        let time = Fixture::revoke(fixture.client.fork(), &fixture.factory, &key, 0).await;
        (time < Timing::DEFAULT.lease).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_without_postgresql_serves_from_its_cache_until_its_lease_expires_and_then_returns_503() {
    let _share = run::waiting().await;
    let cluster = Cluster::start(NODES).await;
    let mut fixture = Fixture::new(&cluster).await;
    let (revoked, kept) = (fixture.known_key().await, fixture.known_key().await);
    let (of_revoked, of_kept) = (&fixture.factory.is_active(&revoked), &fixture.factory.is_active(&kept));
    // One node cannot send to PostgreSQL, the other receives no responses.
    let (deaf, mute) = (1, 2);
    cluster.proxies[deaf].set(NetworkCondition::Refusing);
    cluster.proxies[deaf].cut();
    cluster.proxies[mute].set(NetworkCondition::Blackholed);
    for node in [deaf, mute] {
        assert_eq!(fixture.send(node, of_kept).await.0, ProbeResult::Accepted, "from the cache of node {node}");
    }
    let time = Fixture::revoke(fixture.client.fork(), &fixture.factory, &revoked, 0).await;
    println!("with two unreachable nodes, response time of the revocation: {time:?}");
    assert!(time < BOUND, "{time:?}");
    let begun = Instant::now();
    let asking = [(deaf, of_revoked), (deaf, of_kept), (mute, of_revoked), (mute, of_kept)];
    let asking = asking.map(|(node, probe)| (node, probe, fixture.client.fork()));
    join_all(asking.map(|(node, probe, mut client)| async move {
        client.timeout = RESPONSE_TIMEOUT;
        let response = client.probe(node, &probe.request).await.response.expect("a response");
        assert_eq!((response.status, response.code().as_str()), (503, "auth_unavailable"), "node {node}: {response:?}");
        assert!(is_acceptable(&response), "{response:?}");
        println!("node {node} returned 503 after {:?}", begun.elapsed());
    }))
    .await;
    for node in [deaf, mute] {
        cluster.proxies[node].set(NetworkCondition::Normal);
        eventually(&format!("node {node} recovers"), async || {
            (fixture.send(node, of_kept).await.0 == ProbeResult::Accepted).then_some(())
        })
        .await;
        assert_eq!(fixture.send(node, of_revoked).await.0, ProbeResult::Refused);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_takes_about_a_second_if_every_notification_is_lost() {
    let _share = run::waiting().await;
    let cluster = Cluster::start(NODES).await;
    let mut fixture = Fixture::new(&cluster).await;
    let mut keys = Vec::new();
    for _ in 0..12 {
        keys.push(fixture.known_key().await);
    }
    cluster.proxies.iter().for_each(|proxy| proxy.set(NetworkCondition::NotificationsLost));
    let revoking: Vec<_> = keys
        .iter()
        .enumerate()
        .map(|(n, key)| (fixture.client.random.millis(0, 1000), fixture.client.fork(), key, n % NODES))
        .collect();
    let factory = &fixture.factory;
    // Each starts at another point of the nodes' one-second polling interval.
    let revoking = revoking.into_iter().map(|(at, client, key, node)| async move {
        tokio::time::sleep(at).await;
        Fixture::revoke(client, factory, key, node).await
    });
    let mut times = join_all(revoking).await;
    println!("with every notification lost, response time of revocations: {}", spread(&mut times));
    assert!(times.iter().all(|time| *time < Timing::DEFAULT.lease), "{times:?}");
    for key in &keys {
        refused_everywhere(&mut fixture, key).await;
    }
    let lost: usize = cluster.proxies.iter().map(Proxy::lost_notifications).sum();
    assert!(lost >= keys.len(), "only {lost} notifications were lost");
}

async fn refused_everywhere(fixture: &mut Fixture, key: &Created) {
    let probe = fixture.factory.is_active(key);
    for node in 0..NODES {
        assert_eq!(fixture.send(node, &probe).await.0, ProbeResult::Refused, "by node {node}");
    }
}
