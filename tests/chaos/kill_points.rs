//! `kill -9` after each round that a write makes to PostgreSQL, and then the write again, elsewhere.

use std::time::Duration;

use crate::{invariants::once::Once, proxy::Moment, run, world::World};

/// More rounds than any write makes.
const MANY: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_server_is_killed_after_any_round_to_postgresql_is_done_once_when_it_is_sent_again() {
    let _alone = run::alone().await;
    let mut world = World::start(2).await;
    for kind in ["project", "token"] {
        let once = Once::new(&world.credentials, 0);
        let mut client = world.client(1);
        let mut rounds = 0;
        loop {
            let request = once.write(&mut client, kind, None);
            let name = request.body.as_ref().unwrap()["name"].as_str().unwrap().to_owned();
            let victim = rounds % 2;
            let told = world.proxies[victim].trap(Moment::Answered(rounds));
            let mut doomed = client.fork();
            doomed.patience = Duration::from_secs(20);
            let doomed_request = std::sync::Arc::clone(&request);
            let waiting = tokio::spawn(async move { doomed.ask(victim, &doomed_request).await });
            let caught = told.await.expect("a write that makes a round");
            world.kill_node(victim).await;
            assert_eq!(waiting.await.unwrap(), None, "an answer from a dead server");

            let answer = client.insist(&request).await;
            assert!(answer.is_success(), "{answer:?}");
            assert_eq!(answer.is_replayed(), caught.committed, "killed after round {rounds}: {answer:?}");
            let again = client.insist(&request).await;
            assert!(again.is_replayed());
            assert_eq!((again.status, &again.body), (answer.status, &answer.body));
            let table = format!("{kind}s");
            let sql = format!("SELECT count(*) FROM {table} WHERE name = $1");
            let count: i64 =
                sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(&name).fetch_one(&world.db).await.unwrap();
            assert_eq!(count, 1, "{kind}, killed after round {rounds}");

            world.start_node(victim).await;
            world.all_serve("a kill").await;
            if caught.committed {
                break;
            }
            rounds += 1;
            assert!(rounds < MANY, "a write without COMMIT");
        }
        println!("{kind}: killed after each of {} rounds", rounds + 1);
        // Its BEGIN, its effect, its record and its COMMIT, or the trap has caught something else.
        assert!(rounds >= 3, "{kind} makes {rounds} rounds");
    }
}
