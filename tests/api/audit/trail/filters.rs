//! Every combination of filters of `/v1/audit-logs`.

use std::time::Duration;

use cloudapi::base::runtime::clock::Timestamp;
use serde_json::Value;

use super::{Trail, data, sealed};
use crate::support::{Identity, TestApp};

const ACTORS: [&str; 3] = ["usr_a", "usr_b", "usr_c"];
const ACTIONS: [&str; 3] = ["key.created", "key.updated", "token.created"];
const TARGETS: [&str; 3] = ["key_a", "key_b", "key_c"];
/// Entries of all actors, actions and targets, several times.
const ENTRIES: usize = 90;

/// Stages entries whose actor, action, target and time are unrelated to each other and to their order.
async fn stage_entries(trail: &Trail<'_>, now: Timestamp) {
    for number in 0..ENTRIES {
        let pick = |values: [&'static str; 3], step: usize| values[(number * 7 + number / step) % 3];
        let (actor, action, target) = (pick(ACTORS, 1), pick(ACTIONS, 3), pick(TARGETS, 9));
        let time = now.minus(Duration::from_secs(u64::try_from(number * 37 % ENTRIES).unwrap() * 60));
        let actor = match number % 10 {
            9 => r#"{"credential_id":null,"id":null,"type":"system"}"#.to_owned(),
            _ => format!(r#"{{"credential_id":"sess_1","id":"{actor}","type":"user"}}"#),
        };
        let entry = format!(
            r#"{{"action":"{action}","actor":{actor},"changes":{{}},"occurred_at":"{time}","outcome":"success","request_id":null,"source_ip":null,"target":{{"id":"{target}","type":"key"}},"traceparent":null,"user_agent":null}}"#
        );
        sqlx::query("INSERT INTO audit_staged (project_id, entry) VALUES ($1, $2)")
            .bind(trail.project_uuid())
            .bind(entry)
            .execute(&trail.app.db)
            .await
            .unwrap();
    }
    sealed(trail.app).await;
}

/// The entries of a list, without those that record its reads.
async fn walk(trail: &Trail<'_>, query: &str) -> Vec<Value> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/audit-logs?project_id={}{query}{cursor}", trail.project());
        let page = trail.owner.get(&path).await.ok();
        found.extend(data(&page).iter().filter(|entry| entry["action"] != "audit.read").cloned());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_combination_of_filters_finds_exactly_the_matching_entries() {
    let app = TestApp::start().await;
    let trail = Trail::of(&app, 0).await;
    let now = app.clock.now();
    stage_entries(&trail, now).await;
    let all = walk(&trail, "&limit=100").await;
    assert!(all.len() >= ENTRIES);
    let (from, to) = (now.minus(Duration::from_secs(70 * 60)), now.minus(Duration::from_secs(20 * 60)));
    let mut found = 0;
    for actor in [None, Some("usr_a"), Some("usr_d")] {
        for action in [None, Some("key.created"), Some("token.created"), Some("key.rotated")] {
            for target in [None, Some("key_b"), Some("key_d")] {
                for (from, to) in [(None, None), (Some(from), None), (None, Some(to)), (Some(from), Some(to))] {
                    let fits = |entry: &&Value| {
                        let time = entry["occurred_at"].as_str().unwrap().to_owned();
                        actor.is_none_or(|actor| entry["actor"]["id"] == actor)
                            && action.is_none_or(|action| entry["action"] == action)
                            && target.is_none_or(|target| entry["target"]["id"] == target)
                            && from.is_none_or(|from| time >= from.to_string())
                            && to.is_none_or(|to| time < to.to_string())
                    };
                    let mut expected: Vec<_> = all.iter().filter(fits).cloned().collect();
                    let mut query = String::from("&limit=7");
                    for (name, value) in [("actor", actor), ("action", action), ("target", target)] {
                        query.extend(value.map(|value| format!("&{name}={value}")));
                    }
                    query.extend(from.map(|from| format!("&from={from}")));
                    query.extend(to.map(|to| format!("&to={to}")));
                    assert_eq!(walk(&trail, &query).await, expected, "{query}");
                    expected.reverse();
                    assert_eq!(walk(&trail, &format!("{query}&order=desc")).await, expected, "{query}");
                    found += expected.len();
                }
            }
        }
    }
    assert!(found > ENTRIES);
}
