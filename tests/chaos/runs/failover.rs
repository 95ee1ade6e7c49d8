//! Failover to a synchronous standby on real processes: once a revocation is acknowledged, no node accepts the
//! credential, whichever PostgreSQL the node is connected to. `CHAOS_FAILOVERS` sets how many failovers there are.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;

use crate::{
    harness::{
        client::Client,
        http::Request,
        run::{self, Scale},
    },
    invariants::revoked::{
        RESPONSE_TIMEOUT,
        victim::{Created, Probe, ProbeResult},
    },
    runs::revocation::Fixture,
    servers::cluster::{Cluster, eventually},
};

const NODES: usize = 3;
/// How many keys every node has cached before the failover, and how many only the database has.
const KEYS: usize = 6;
/// How long each node is asked after a revocation: longer than a lease, and than opening a new connection.
const WATCHED: Duration = Duration::from_millis(4500);

/// Servers on a primary with a synchronous standby, with cached and uncached keys.
struct Failover {
    cluster: Cluster,
    fixture: Fixture,
    cached: Vec<Created>,
    fresh: Vec<Created>,
}

impl Failover {
    async fn start() -> Self {
        let mut cluster = Cluster::start(NODES).await;
        cluster.start_standby().await;
        let mut fixture = Fixture::new(&cluster).await;
        let (mut cached, mut fresh) = (Vec::new(), Vec::new());
        for _ in 0..KEYS {
            cached.push(fixture.known_key().await);
            fresh.push(fixture.factory.key(&mut fixture.client, None).await);
        }
        Self { cluster, fixture, cached, fresh }
    }

    /// Waits until `node` can revoke, and revokes all keys there, concurrently: a revocation may wait for the lease of a
    /// node that does not respond.
    async fn revoke_at(&mut self, node: usize) {
        let Self { fixture, cached, fresh, .. } = self;
        join_all(cached.iter().chain(&*fresh).map(|key| {
            let (request, mut client) = (fixture.factory.delete("keys", key), fixture.client.fork());
            client.timeout = RESPONSE_TIMEOUT;
            async move {
                eventually("the revocation is acknowledged", async || {
                    let response = client.probe(node, &request).await.response?;
                    (response.status == 200).then_some(())
                })
                .await;
            }
        }))
        .await;
    }

    /// Asks every node repeatedly about each revoked key, on several connections. Returns how often nodes refused a
    /// key, and how often they could not check it.
    async fn watch(&mut self) -> (usize, usize) {
        let mut probes = Vec::new();
        for key in self.cached.iter().chain(&self.fresh) {
            probes.push(self.fixture.factory.is_active(key));
            probes.push(self.fixture.factory.direct(key, "/v1/usage"));
        }
        let probes = Arc::new(probes);
        let asking = (0..NODES).flat_map(|node| [(node, 0), (node, 1), (node, 2)]);
        let asking: Vec<_> = asking.map(|(node, _)| (node, self.fixture.client.fork(), Arc::clone(&probes))).collect();
        let asked = join_all(asking.into_iter().map(|(node, client, probes)| ask_all(client, node, probes))).await;
        asked.iter().fold((0, 0), |(refused, unable), (more, less)| (refused + more, unable + less))
    }

    async fn ready(&mut self, node: usize) -> u16 {
        let path = "/readyz".to_owned();
        let request = Request { method: "GET", path, secret: String::new(), key: None, body: None };
        self.fixture.client.probe(node, &request).await.response.map_or(0, |response| response.status)
    }
}

async fn ask_all(mut client: Client, node: usize, probes: Arc<Vec<Probe>>) -> (usize, usize) {
    let (mut refused, mut unable) = (0, 0);
    let until = Instant::now() + WATCHED;
    while Instant::now() < until {
        // Concurrently, because a node that cannot check a key responds late.
        let asked = join_all(probes.iter().map(|probe| {
            let mut client = client.fork();
            client.timeout = RESPONSE_TIMEOUT;
            async move { (probe, client.probe(node, &probe.request).await.response) }
        }));
        for (probe, response) in asked.await {
            match response.as_ref().map(|response| probe.read(response)) {
                Some(ProbeResult::Refused) => refused += 1,
                Some(ProbeResult::Accepted) => panic!("node {node} accepts a revoked key: {response:?}"),
                // The node cannot check the introspecting key, or is unreachable.
                Some(ProbeResult::Unavailable | ProbeResult::Unexpected) | None => unable += 1,
            }
        }
    }
    (refused, unable)
}

#[tokio::test(flavor = "multi_thread")]
async fn after_failover_from_dead_primary_no_node_accepts_revoked_key_and_all_nodes_serve_again() {
    let _share = run::waiting().await;
    for _ in 0..Scale::from_env().failovers {
        let mut failover = Failover::start().await;
        failover.cluster.kill_postgres();
        failover.cluster.promote_standby().await;
        failover.fixture.factory.set_db(&failover.cluster.db);
        for proxy in &failover.cluster.proxies {
            proxy.redirect(failover.cluster.standby_socket());
            proxy.cut();
        }
        let took = failover.cluster.all_serve("a failover").await;
        failover.revoke_at(0).await;
        let (refused, unable) = failover.watch().await;
        println!("served {took:?} after a failover; refused {refused} times, unable {unable} times");
        assert!(refused > unable, "refused {refused} times, unable {unable} times");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_failover_from_running_primary_no_node_accepts_revoked_key() {
    let _share = run::waiting().await;
    for _ in 0..Scale::from_env().failovers {
        let mut failover = Failover::start().await;
        // Open pool connections that keep their database server.
        let warm = Arc::new(failover.cluster.request("GET", "/v1/projects?limit=1", None));
        let clients: Vec<_> = (0..8).map(|_| failover.fixture.client.fork()).collect();
        join_all(clients.into_iter().map(|mut client| {
            let warm = &warm;
            async move {
                for node in 0..NODES {
                    client.probe(node, warm).await;
                }
            }
        }))
        .await;
        failover.cluster.promote_standby().await;
        failover.fixture.factory.set_db(&failover.cluster.db);
        let (standby, [moved, split, stale]) = (failover.cluster.standby_socket(), [0, 1, 2]);
        // One node follows the failover, one follows it with its lease only, and one does not notice it.
        failover.cluster.proxies[moved].redirect(standby.clone());
        failover.cluster.proxies[moved].cut();
        failover.cluster.proxies[split].redirect(standby);
        failover.cluster.proxies[split].cut_keeper();
        failover.revoke_at(moved).await;
        let (refused, unable) = failover.watch().await;
        println!("refused {refused} times, unable {unable} times");
        assert!(refused > 0 && unable > 0, "refused {refused} times, unable {unable} times");
        assert_eq!(failover.ready(moved).await, 200);
        assert_eq!(failover.ready(stale).await, 503);
        // Its pool has moved to the new primary, one rejected lookup at a time.
        eventually("the node that moved only its lease is ready", async || {
            (failover.ready(split).await == 200).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn node_with_pool_on_lagging_replica_does_not_accept_revoked_key() {
    let _share = run::waiting().await;
    for _ in 0..Scale::from_env().failovers {
        let mut failover = Failover::start().await;
        failover.cluster.on_standby("SELECT pg_wal_replay_pause()").await;
        let misled = 1;
        let replica = failover.cluster.standby_socket();
        failover.cluster.proxies[misled].redirect(replica);
        failover.cluster.proxies[misled].cut_pool();
        failover.revoke_at(0).await;
        let (refused, unable) = failover.watch().await;
        println!("refused {refused} times, unable {unable} times");
        assert!(refused > 0 && unable > 0, "refused {refused} times, unable {unable} times");
        assert_eq!(failover.ready(misled).await, 503);
        assert_eq!(failover.ready(0).await, 200);
        let primary = failover.cluster.primary_socket();
        failover.cluster.proxies[misled].redirect(primary);
        eventually("the node is ready again", async || (failover.ready(misled).await == 200).then_some(())).await;
    }
}
