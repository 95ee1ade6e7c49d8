//! Failover to a synchronous standby on real processes: once a revocation is acknowledged, no node accepts the credential,
//! whichever PostgreSQL the node is connected to. `CHAOS_FAILOVERS` sets how many failovers there are.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;

use crate::{
    client::Client,
    http::Request,
    invariants::revoked::{
        PATIENCE,
        victim::{Made, Said, Sign},
    },
    revocation::Bench,
    run::{self, Scale},
    world::{World, eventually},
};

const NODES: usize = 3;
/// How many keys every node has cached before the failover, and how many only the database has.
const KEYS: usize = 6;
/// How long each node is asked after a revocation: longer than a lease, and than opening a new connection.
const WATCHED: Duration = Duration::from_millis(4500);

/// Servers on a primary with a synchronous standby, with cached and uncached keys.
struct Failover {
    world: World,
    bench: Bench,
    cached: Vec<Made>,
    fresh: Vec<Made>,
}

impl Failover {
    async fn start() -> Self {
        let mut world = World::start(NODES).await;
        world.start_standby().await;
        let mut bench = Bench::new(&world).await;
        let (mut cached, mut fresh) = (Vec::new(), Vec::new());
        for _ in 0..KEYS {
            cached.push(bench.known_key().await);
            fresh.push(bench.maker.key(&mut bench.client, None).await);
        }
        Self { world, bench, cached, fresh }
    }

    /// Waits until `node` can revoke, and revokes all keys there.
    async fn revoke_at(&mut self, node: usize) {
        let mut client = self.bench.client.fork();
        client.patience = PATIENCE;
        for key in self.cached.iter().chain(&self.fresh) {
            let request = self.bench.maker.delete("keys", key);
            eventually("the revocation is acknowledged", async || {
                let answer = client.probe(node, &request).await.answer?;
                (answer.status == 200).then_some(())
            })
            .await;
        }
    }

    /// Asks every node repeatedly about each revoked key, on several connections. Returns how often nodes refused a key, and
    /// how often they could not check it.
    async fn watch(&mut self) -> (usize, usize) {
        let mut signs = Vec::new();
        for key in self.cached.iter().chain(&self.fresh) {
            signs.push(self.bench.maker.is_active(key));
            signs.push(self.bench.maker.direct(key, "/v1/usage"));
        }
        let signs = Arc::new(signs);
        let asking = (0..NODES).flat_map(|node| [(node, 0), (node, 1), (node, 2)]);
        let asking: Vec<_> = asking.map(|(node, _)| (node, self.bench.client.fork(), Arc::clone(&signs))).collect();
        let asked = join_all(asking.into_iter().map(|(node, client, signs)| ask_all(client, node, signs))).await;
        asked.iter().fold((0, 0), |(refused, unable), (more, less)| (refused + more, unable + less))
    }

    async fn ready(&mut self, node: usize) -> u16 {
        let path = "/readyz".to_owned();
        let request = Request { method: "GET", path, secret: String::new(), key: None, body: None };
        self.bench.client.probe(node, &request).await.answer.map_or(0, |answer| answer.status)
    }
}

async fn ask_all(mut client: Client, node: usize, signs: Arc<Vec<Sign>>) -> (usize, usize) {
    client.patience = PATIENCE;
    let (mut refused, mut unable) = (0, 0);
    let until = Instant::now() + WATCHED;
    while Instant::now() < until {
        for sign in signs.iter() {
            let answer = client.probe(node, &sign.request).await.answer;
            match answer.as_ref().map(|answer| sign.read(answer)) {
                Some(Said::Refused) => refused += 1,
                Some(Said::Accepted) => panic!("node {node} accepts a revoked key: {answer:?}"),
                // The node cannot check the introspecting key, or is unreachable.
                Some(Said::Unable | Said::Odd) | None => unable += 1,
            }
        }
    }
    (refused, unable)
}

#[tokio::test(flavor = "multi_thread")]
async fn after_failover_from_dead_primary_no_node_accepts_revoked_key_and_all_nodes_serve_again() {
    let _beside = run::beside().await;
    for _ in 0..Scale::from_env().failovers {
        let mut failover = Failover::start().await;
        failover.world.kill_postgres();
        failover.world.promote_standby().await;
        failover.bench.maker.set_db(&failover.world.db);
        for proxy in &failover.world.proxies {
            proxy.steer(failover.world.standby_socket());
            proxy.cut();
        }
        let took = failover.world.all_serve("a failover").await;
        failover.revoke_at(0).await;
        let (refused, unable) = failover.watch().await;
        println!("served {took:?} after a failover; refused {refused} times, unable {unable} times");
        assert!(refused > unable, "refused {refused} times, unable {unable} times");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_failover_from_running_primary_no_node_accepts_revoked_key() {
    let _beside = run::beside().await;
    for _ in 0..Scale::from_env().failovers {
        let mut failover = Failover::start().await;
        // Open pool connections that keep their database server.
        let warm = Arc::new(failover.world.request("GET", "/v1/projects?limit=1", None));
        let clients: Vec<_> = (0..8).map(|_| failover.bench.client.fork()).collect();
        join_all(clients.into_iter().map(|mut client| {
            let warm = &warm;
            async move {
                for node in 0..NODES {
                    client.probe(node, warm).await;
                }
            }
        }))
        .await;
        failover.world.promote_standby().await;
        failover.bench.maker.set_db(&failover.world.db);
        let (standby, [moved, split, stale]) = (failover.world.standby_socket(), [0, 1, 2]);
        // One node follows the failover, one follows it with its lease only, and one does not notice it.
        failover.world.proxies[moved].steer(standby.clone());
        failover.world.proxies[moved].cut();
        failover.world.proxies[split].steer(standby);
        failover.world.proxies[split].cut_keeper();
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
    let _beside = run::beside().await;
    for _ in 0..Scale::from_env().failovers {
        let mut failover = Failover::start().await;
        failover.world.on_standby("SELECT pg_wal_replay_pause()").await;
        let misled = 1;
        let replica = failover.world.standby_socket();
        failover.world.proxies[misled].steer(replica);
        failover.world.proxies[misled].cut_pool();
        failover.revoke_at(0).await;
        let (refused, unable) = failover.watch().await;
        println!("refused {refused} times, unable {unable} times");
        assert!(refused > 0 && unable > 0, "refused {refused} times, unable {unable} times");
        assert_eq!(failover.ready(misled).await, 503);
        assert_eq!(failover.ready(0).await, 200);
        let primary = failover.world.primary_socket();
        failover.world.proxies[misled].steer(primary);
        eventually("the node is ready again", async || (failover.ready(misled).await == 200).then_some(())).await;
    }
}
