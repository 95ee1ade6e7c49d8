//! A write is interrupted after each round trip to PostgreSQL, up to and including COMMIT, and then retried at another
//! node.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use crate::{
    harness::{
        client::{Client, is_retryable},
        http::{Request, Response},
        run,
    },
    invariants::{
        idempotent::Idempotent,
        responses,
        revoked::{
            RESPONSE_TIMEOUT,
            victim::{CredentialFactory, ProbeResult},
        },
    },
    proxy::{Caught, TrapPoint},
    runs::revocation::BOUND,
    servers::cluster::Cluster,
};

/// More round trips than any write makes.
const MAX_ROUND_TRIPS: usize = 40;

/// How a write is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interruption {
    /// `kill -9` of its server.
    Kill,
    /// The connection between the server and PostgreSQL is cut, and pending responses are lost.
    Cut,
}

/// Sends a write to `victim` and interrupts it after `round` round trips. Returns the client's response, and whether
/// PostgreSQL had committed.
async fn interrupt(
    cluster: &mut Cluster,
    client: Client,
    request: &Arc<Request>,
    victim: usize,
    round: usize,
    how: Interruption,
) -> (Option<Response>, bool) {
    let (pending_request, caught) = hold_at_round(cluster, client, request, victim, round).await;
    match how {
        Interruption::Kill => cluster.kill_node(victim).await,
        Interruption::Cut => cluster.proxies[victim].cut(),
    }
    let response = pending_request.await.unwrap();
    if how == Interruption::Kill {
        cluster.start_node(victim).await;
    }
    (response, caught.committed)
}

/// Sends a write to `victim`, which receives no response from PostgreSQL after `round` round trips.
async fn hold_at_round(
    cluster: &Cluster,
    mut client: Client,
    request: &Arc<Request>,
    victim: usize,
    round: usize,
) -> (JoinHandle<Option<Response>>, Caught) {
    // Use a new connection: one with prepared statements makes fewer round trips.
    cluster.proxies[victim].cut();
    let mut trapped = cluster.proxies[victim].trap(TrapPoint::RoundTrip(round));
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut client = client.fork();
        client.timeout = Duration::from_secs(20);
        let request = Arc::clone(request);
        let mut pending_request = tokio::spawn(async move { client.send(victim, &request).await });
        tokio::select! {
            caught = &mut trapped => return (pending_request, caught.expect("a trap that triggers")),
            // The server notices that its connections were cut.
            response = &mut pending_request => {
                let response = response.unwrap();
                assert!(response.as_ref().is_some_and(is_retryable), "fewer round trips than expected: {response:?}");
                assert!(Instant::now() < deadline, "still {response:?}");
            }
        }
    }
}

/// Interrupts writes of one kind after each round trip in turn. Returns how many round trips such a write makes.
async fn interrupt_everywhere(cluster: &mut Cluster, client: &mut Client, kind: &str, how: Interruption) -> usize {
    let idempotent = Idempotent::new(&cluster.credentials, 0);
    let create = idempotent.write(client, "project", None);
    let edited = client.send_until_final(&create).await;
    let edited = format!("/v1/projects/{}", edited.json()["id"].as_str().unwrap());
    for round in 0..MAX_ROUND_TRIPS {
        let request = idempotent.write(client, kind, Some(edited.clone()));
        let interrupted_client = client.fork();
        let (response, committed) = interrupt(cluster, interrupted_client, &request, round % 2, round, how).await;
        let at = format!("{kind}, {how:?} after round {round}");
        // Before its COMMIT, a server that only lost its connection restarts the transaction on another one.
        let done = committed || response.as_ref().is_some_and(Response::is_success);
        match response {
            None => assert_eq!(how, Interruption::Kill, "{at}: a running server must respond"),
            Some(response) if committed => {
                assert!(response.status == 503 && response.code() == "outcome_unknown", "{at}: {response:?}");
            }
            Some(response) => assert!(responses::is_acceptable(&response), "{at}: {response:?}"),
        }

        let response = client.send_until_final(&request).await;
        assert!(response.is_success(), "{at}: {response:?}");
        assert_eq!(response.is_replayed(), done, "{at}: {response:?}");
        let again = client.send_until_final(&request).await;
        assert!(again.is_replayed() && again.body == response.body, "{at}: {again:?}");
        let body = request.body.as_ref().unwrap();
        let count: i64 = if kind == "edit" {
            // Each edit raises the version by one.
            let sql = "SELECT count(*) FROM projects WHERE metadata = $1 AND version = $2";
            let version = i64::try_from(round).unwrap() + 2;
            sqlx::query_scalar(sql).bind(&body["metadata"]).bind(version).fetch_one(&cluster.db).await.unwrap()
        } else {
            let sql = "SELECT count(*) FROM tokens WHERE name = $1";
            sqlx::query_scalar(sql).bind(body["name"].as_str()).fetch_one(&cluster.db).await.unwrap()
        };
        assert_eq!(count, 1, "{at}");
        cluster.all_serve(&at).await;
        if committed {
            return round + 1;
        }
    }
    panic!("no COMMIT seen for a {kind}");
}

async fn interrupt_all_kinds(how: Interruption) {
    let _share = run::waiting().await;
    let mut cluster = Cluster::start(2).await;
    let mut client = cluster.client(1);
    // A transaction of several statements: BEGIN with the claim, reads, the effect, and the record with COMMIT. And a
    // single statement (prepare and execute), whose stored response is sealed. Fewer round trips mean that the trap
    // caught something else.
    for (kind, least) in [("edit", 5), ("token", 2)] {
        let rounds = interrupt_everywhere(&mut cluster, &mut client, kind, how).await;
        println!("{kind}: {how:?} after each of {rounds} rounds");
        assert!(rounds >= least, "{kind}: {rounds} rounds");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn write_whose_server_is_killed_at_any_round_trip_takes_effect_once_when_retried() {
    interrupt_all_kinds(Interruption::Kill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn write_cut_off_from_postgresql_at_any_round_trip_is_503_and_takes_effect_once_when_retried() {
    interrupt_all_kinds(Interruption::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_revocation_does_not_block_others_and_its_acknowledged_retry_holds_on_every_node() {
    let _share = run::waiting().await;
    let cluster = Cluster::start(2).await;
    let mut client = cluster.client(1);
    client.timeout = RESPONSE_TIMEOUT;
    let factory = CredentialFactory::new(&cluster).await;
    for round in 0..MAX_ROUND_TRIPS {
        let key = factory.key(&mut client, None).await;
        let (request, probe) = (Arc::new(factory.delete("keys", &key)), factory.is_active(&key));
        for node in 0..2 {
            client.probe(node, &probe.request).await;
        }
        let other = factory.key(&mut client, None).await;
        let victim = round % 2;
        let (pending_request, Caught { committed }) =
            hold_at_round(&cluster, client.fork(), &request, victim, round).await;
        // Another revocation must not wait for a server that may never continue.
        let asked = client.probe(1 - victim, &factory.delete("keys", &other)).await;
        let at = format!("while another is blocked after round {round}, after {:?}", asked.received_at - asked.sent_at);
        let response = asked.response.unwrap_or_else(|| panic!("no response {at}"));
        assert!(response.status == 200 && asked.received_at - asked.sent_at < BOUND, "{at}: {response:?}");
        cluster.proxies[victim].cut();
        let response = pending_request.await.unwrap();
        let at = format!("after round {round}");
        let response = response.expect("a running server must respond");
        let unsure = response.code() == "revocation_unconfirmed";
        assert!(responses::is_acceptable(&response) && unsure == committed, "{at}: {response:?}");

        let response = client.send_until_final(&request).await;
        assert_eq!(response.status, 200, "{at}: {response:?}");
        for node in 0..2 {
            let response = client.probe(node, &probe.request).await.response.expect("a response");
            assert_ne!(probe.read(&response), ProbeResult::Accepted, "{at}: {response:?}");
        }
        cluster.all_serve(&at).await;
        if committed {
            println!("revocation: interrupted after each of {} rounds", round + 1);
            // BEGIN, the effect, and the invalidation with COMMIT.
            assert!(round >= 3, "{round} rounds");
            return;
        }
    }
    panic!("no COMMIT seen for a revocation");
}
