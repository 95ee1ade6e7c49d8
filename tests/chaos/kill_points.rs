//! A write is interrupted after each round trip to PostgreSQL, up to and including COMMIT, and then retried at another node.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use crate::{
    client::{Client, says_later},
    http::{Answer, Request},
    invariants::{
        answers,
        once::Once,
        revoked::{
            PATIENCE,
            victim::{Maker, Said},
        },
    },
    proxy::{Caught, Moment},
    revocation::BOUND,
    run,
    world::World,
};

/// More round trips than any write makes.
const MANY: usize = 40;

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
    world: &mut World,
    client: Client,
    request: &Arc<Request>,
    victim: usize,
    round: usize,
    how: Interruption,
) -> (Option<Answer>, bool) {
    let (asking, caught) = hold_up(world, client, request, victim, round).await;
    match how {
        Interruption::Kill => world.kill_node(victim).await,
        Interruption::Cut => world.proxies[victim].cut(),
    }
    let answer = asking.await.unwrap();
    if how == Interruption::Kill {
        world.start_node(victim).await;
    }
    (answer, caught.committed)
}

/// Sends a write to `victim`, which receives no response from PostgreSQL after `round` round trips.
async fn hold_up(
    world: &World,
    mut client: Client,
    request: &Arc<Request>,
    victim: usize,
    round: usize,
) -> (JoinHandle<Option<Answer>>, Caught) {
    // Use a new connection: one with prepared statements makes fewer round trips.
    world.proxies[victim].cut();
    let mut told = world.proxies[victim].trap(Moment::Answered(round));
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut client = client.fork();
        client.patience = Duration::from_secs(20);
        let request = Arc::clone(request);
        let mut asking = tokio::spawn(async move { client.ask(victim, &request).await });
        tokio::select! {
            caught = &mut told => return (asking, caught.expect("a trap that triggers")),
            // The server notices that its connections were cut.
            answer = &mut asking => {
                let answer = answer.unwrap();
                assert!(answer.as_ref().is_some_and(says_later), "fewer round trips than expected: {answer:?}");
                assert!(Instant::now() < deadline, "still {answer:?}");
            }
        }
    }
}

/// Interrupts writes of one kind after each round trip in turn. Returns how many round trips such a write makes.
async fn interrupt_everywhere(world: &mut World, client: &mut Client, kind: &str, how: Interruption) -> usize {
    let once = Once::new(&world.credentials, 0);
    for round in 0..MANY {
        let request = once.write(client, kind, None);
        let doomed = client.fork();
        let (answer, committed) = interrupt(world, doomed, &request, round % 2, round, how).await;
        let at = format!("{kind}, {how:?} after round {round}");
        // Before its COMMIT, a server that only lost its connection restarts the transaction on another one.
        let done = committed || answer.as_ref().is_some_and(Answer::is_success);
        match answer {
            None => assert_eq!(how, Interruption::Kill, "{at}: a running server must respond"),
            Some(answer) if committed => {
                assert!(answer.status == 503 && answer.code() == "outcome_unknown", "{at}: {answer:?}");
            }
            Some(answer) => assert!(answers::is_fit(&answer), "{at}: {answer:?}"),
        }

        let answer = client.insist(&request).await;
        assert!(answer.is_success(), "{at}: {answer:?}");
        assert_eq!(answer.is_replayed(), done, "{at}: {answer:?}");
        let again = client.insist(&request).await;
        assert!(again.is_replayed() && again.body == answer.body, "{at}: {again:?}");
        let name = request.body.as_ref().unwrap()["name"].as_str().unwrap();
        let sql = format!("SELECT count(*) FROM {kind}s WHERE name = $1");
        let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(name).fetch_one(&world.db).await.unwrap();
        assert_eq!(count, 1, "{at}");
        world.all_serve(&at).await;
        if committed {
            return round + 1;
        }
    }
    panic!("no COMMIT seen for a {kind}");
}

async fn interrupt_all_kinds(how: Interruption) {
    let _beside = run::beside().await;
    let mut world = World::start(2).await;
    let mut client = world.client(1);
    // One kind without a secret in its response, and one whose stored response is sealed.
    for (kind, least) in [("project", 4), ("token", 2)] {
        let rounds = interrupt_everywhere(&mut world, &mut client, kind, how).await;
        println!("{kind}: {how:?} after each of {rounds} rounds");
        // BEGIN with the claim, the effect (prepare and execute), and the record with COMMIT; or a single statement (prepare
        // and execute). Fewer round trips mean that the trap caught something else.
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
    let _beside = run::beside().await;
    let world = World::start(2).await;
    let mut client = world.client(1);
    client.patience = PATIENCE;
    let maker = Maker::new(&world).await;
    for round in 0..MANY {
        let key = maker.key(&mut client, None).await;
        let (request, sign) = (Arc::new(maker.delete("keys", &key)), maker.is_active(&key));
        for node in 0..2 {
            client.probe(node, &sign.request).await;
        }
        let other = maker.key(&mut client, None).await;
        let victim = round % 2;
        let (asking, Caught { committed }) = hold_up(&world, client.fork(), &request, victim, round).await;
        // Another revocation must not wait for a server that may never continue.
        let asked = client.probe(1 - victim, &maker.delete("keys", &other)).await;
        let at = format!("while another is blocked after round {round}, after {:?}", asked.over - asked.begun);
        let answer = asked.answer.unwrap_or_else(|| panic!("no response {at}"));
        assert!(answer.status == 200 && asked.over - asked.begun < BOUND, "{at}: {answer:?}");
        world.proxies[victim].cut();
        let answer = asking.await.unwrap();
        let at = format!("after round {round}");
        let answer = answer.expect("a running server must respond");
        let unsure = answer.code() == "revocation_unconfirmed";
        assert!(answers::is_fit(&answer) && unsure == committed, "{at}: {answer:?}");

        let answer = client.insist(&request).await;
        assert_eq!(answer.status, 200, "{at}: {answer:?}");
        for node in 0..2 {
            let answer = client.probe(node, &sign.request).await.answer.expect("a response");
            assert_ne!(sign.read(&answer), Said::Accepted, "{at}: {answer:?}");
        }
        world.all_serve(&at).await;
        if committed {
            println!("revocation: interrupted after each of {} rounds", round + 1);
            // BEGIN, the effect, and the invalidation with COMMIT.
            assert!(round >= 3, "{round} rounds");
            return;
        }
    }
    panic!("no COMMIT seen for a revocation");
}
