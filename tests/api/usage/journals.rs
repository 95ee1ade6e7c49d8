//! Usage journals: counts survive every kind of server exit.

use std::{fs, path::Path};

use cloudapi::{
    api::usage::counting::{flush, journal::slot::CounterKey, meter::Meter},
    base::runtime::clock::Clock,
    server::state::AppOptions,
};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::{another_server, counted, data, in_folder, requests, this_month};
use crate::support::{Identity, TestApp, binary::Deployment};

fn files(folder: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

/// A server that counted requests and ended before it flushed them.
async fn lost(app: &TestApp, folder: &Path, counted: &CounterKey, requests: usize) {
    drop(another_server(app, in_folder(folder, 64), counted, requests).await);
}

#[tokio::test]
async fn counts_of_a_killed_server_are_flushed_when_it_restarts() {
    let deployment = Deployment::new();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut expected = 0;
    let mut secret = String::new();
    for round in 0..3 {
        let server = deployment.serve();
        if secret.is_empty() {
            secret = deployment.printed(&["admin", "session", "--email", "ada@example.com"]).trim().to_owned();
        }
        let get = async |path: &str| -> Value {
            let request = client.get(format!("{}{path}", server.url)).bearer_auth(&secret);
            serde_json::from_slice(&request.send().await.unwrap().bytes().await.unwrap()).unwrap()
        };
        let usage = get("/v1/usage?project_id=proj_8f2c4").await;
        assert_eq!(usage["requests"], expected, "round {round}");
        expected += 1;
        for _ in 0..5 {
            get("/v1/keys?project_id=proj_8f2c4").await;
            expected += 1;
        }
        // Immediately: most counts are only in the journal.
        assert!(server.end(Signal::SIGKILL).was_killed());
    }
    let journals = files(&deployment.folder().join("data/usage"), "journal");
    assert_eq!(journals.len(), 1, "the same journal must be used each time");
}

#[tokio::test]
async fn next_server_takes_over_the_journals_of_its_folder_and_flushing_again_adds_nothing() {
    let folder = TempDir::new().unwrap();
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let before = requests(&app, &key).await + 1;
    let counted = counted(&owner.project, &key, app.clock.now().date());
    lost(&app, folder.path(), &counted, 3).await;
    lost(&app, folder.path(), &counted, 2).await; // continues the same file
    assert_eq!(files(folder.path(), "journal").len(), 1);
    for restart in 0..3 {
        let next = Meter::new(in_folder(folder.path(), 64)).unwrap();
        flush::open(&next, &app.db, &app.clock).await.unwrap();
        flush::flush_or_log(&next, &app.db, &app.clock).await;
        assert_eq!(requests(&app, &key).await, before + 5 + restart);
        if restart == 1 {
            flush::close(&next, &app.db, &app.clock).await;
        }
    }
}

#[tokio::test]
async fn two_servers_in_one_folder_use_separate_journals() {
    let folder = TempDir::new().unwrap();
    let options = || AppOptions { meter: in_folder(folder.path(), 64), ..AppOptions::default() };
    let app = TestApp::start_with(options()).await;
    let beside = app.start_peer(options()).await;
    assert_eq!(files(folder.path(), "journal").len(), 2);
    let owner = app.owner().await;
    let key = owner.key().await;
    let there = crate::support::Bearer { app: &beside, secret: key.secret.clone() };
    for _ in 0..3 {
        key.get("/v1/keys").await.ok();
        there.get("/v1/keys").await.ok();
    }
    beside.flush_usage().await;
    assert_eq!(requests(&app, &key).await, 7);
}

#[tokio::test]
async fn full_journal_is_replaced_and_deleted_after_its_flush() {
    let folder = TempDir::new().unwrap();
    let options = AppOptions { meter: in_folder(folder.path(), 64), ..AppOptions::default() };
    let app = TestApp::start_with(options).await;
    let owner = app.owner().await;
    let first = files(folder.path(), "journal");
    let mut keys = Vec::new();
    for _ in 0..100 {
        let key = owner.key().await;
        key.get("/v1/projects").await.ok();
        keys.push(key);
    }
    let total = requests(&app, &keys[0]).await;
    assert_eq!(total, 200);
    app.flush_usage().await;
    let left = files(folder.path(), "journal");
    assert!(!left.contains(&first[0]) && left.len() <= 2, "{left:?}");
    let month = this_month(&app);
    let path = format!("/v1/usage/breakdown?group_by=key&limit=100&from={}&to={}", month.first(), month.last());
    let by_key = keys[0].get(&path).await.ok();
    // The first page has one group without a key and 99 keys; one more key follows.
    assert!(by_key["next_cursor"].is_string());
    assert!(data(&by_key)[2..].iter().all(|group| group["requests"] == 1), "{by_key}");
}

#[tokio::test]
async fn operator_can_import_the_journal_of_a_lost_server_repeatedly() {
    let (folder, deployment) = (TempDir::new().unwrap(), Deployment::new());
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let before = requests(&app, &key).await + 1;
    lost(&app, folder.path(), &counted(&owner.project, &key, app.clock.now().date()), 9).await;
    let database = app.db.connect_options();
    let run = |arguments: &[&str]| deployment.run_on(&database, arguments);
    let journal = files(folder.path(), "journal").remove(0);
    let id = journal.file_stem().unwrap().to_str().unwrap().to_owned();
    let (_, open, _) = run(&["usage", "journals"]);
    assert!(open.contains(&id), "{open}");
    for round in 0..2 {
        let (done, message, error) = run(&["usage", "import", journal.to_str().unwrap()]);
        assert!(done && message.contains("All 9 requests") && message.contains(&id), "{message}{error}");
        assert_eq!(requests(&app, &key).await, before + 9 + round);
    }
    let (_, open, _) = run(&["usage", "journals"]);
    assert!(!open.contains(&id), "{open}");

    // Failed imports say why and what to do.
    let held = Meter::new(in_folder(folder.path(), 64)).unwrap();
    flush::open(&held, &app.db, &app.clock).await.unwrap();
    let (done, _, error) = run(&["usage", "import", journal.to_str().unwrap()]);
    assert!(!done && error.contains("a running server counts in it"), "{error}");
    drop(held);
    sqlx::query("UPDATE deployment SET id = gen_random_uuid()").execute(&app.db).await.unwrap();
    let (done, _, error) = run(&["usage", "import", journal.to_str().unwrap()]);
    assert!(!done && error.contains("belongs to another database; set DATABASE_URL"), "{error}");
    for (path, message) in [("/nowhere.journal", "No such file"), ("/etc/hostname", "is not a usage journal")] {
        let (done, _, error) = run(&["usage", "import", path]);
        assert!(!done && error.contains(message), "{error}");
    }
    // A server on the other database does not count the journal either.
    let next = Meter::new(in_folder(folder.path(), 64)).unwrap();
    flush::open(&next, &app.db, &app.clock).await.unwrap();
    assert_eq!(files(folder.path(), "of-another-database").len(), 1);
}

#[tokio::test]
async fn damaged_counters_of_a_journal_are_reported_and_all_others_are_counted() {
    let (folder, deployment) = (TempDir::new().unwrap(), Deployment::new());
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let (key, other) = (owner.key().await, owner.key().await);
    let before = requests(&app, &key).await + 1;
    lost(&app, folder.path(), &counted(&owner.project, &key, app.clock.now().date()), 4).await;
    lost(&app, folder.path(), &counted(&owner.project, &other, app.clock.now().date()), 3).await;
    let journal = files(folder.path(), "journal").remove(0);
    let mut bytes = fs::read(&journal).unwrap();
    let id = u128::from_str_radix(other.id.trim_start_matches("key_"), 16).unwrap();
    // As after a power failure: the second half of a slot's key did not reach the disk.
    let low = ((id & u128::from(u64::MAX)) as u64).to_ne_bytes();
    let place = bytes.windows(8).position(|window| window == low).unwrap();
    bytes[place..place + 8].fill(0);
    fs::write(&journal, bytes).unwrap();
    let arguments = ["usage", "import", journal.to_str().unwrap(), "--json"];
    let (_, message, _) = deployment.run_on(&app.db.connect_options(), &arguments);
    let message: Value = serde_json::from_str(&message).unwrap();
    assert_eq!((message["requests"].as_u64(), message["damaged_counters"].as_u64()), (Some(4), Some(1)), "{message}");
    assert_eq!(requests(&app, &key).await, before + 4);
}

#[tokio::test]
async fn usage_report_includes_deleted_projects() {
    let deployment = Deployment::new();
    let app = TestApp::start().await;
    let (owner, other) = (app.owner().await, app.owner().await);
    other.key().await.get("/v1/projects").await.ok();
    let key = owner.key().await;
    key.get("/v1/projects").await.ok();
    owner.post_empty(&format!("/v1/projects/{}/archive", owner.project)).await.ok();
    owner.delete(&format!("/v1/projects/{}", owner.project)).await.ok();
    app.flush_usage().await;
    let database = app.db.connect_options();
    let run = |arguments: &[&str]| {
        let (done, message, error) = deployment.run_on(&database, arguments);
        assert!(done, "{error}");
        message
    };
    let month = this_month(&app).to_string();
    let report: Value = serde_json::from_str(&run(&["usage", "report", &month, "--json"])).unwrap();
    let of = |project: &str| {
        let bills = report["projects"].as_array().unwrap();
        bills
            .iter()
            .find(|bill| bill["project_id"] == project)
            .unwrap_or_else(|| panic!("{project} in {report}"))
            .clone()
    };
    assert_eq!((of(&owner.project)["requests"].as_i64(), &of(&owner.project)["name"]), (Some(4), &Value::Null));
    assert_eq!(of(&other.project)["requests"], 2);
    let text = run(&["usage", "report", &month]);
    assert!(text.contains(&owner.project) && text.contains("(deleted)"), "{text}");
    let (_, _, error) = deployment.run_on(&database, &["usage", "report", "2999-01"]);
    assert!(error.contains("has not begun"));
    assert_eq!(Clock::system().now().date(), app.clock.now().date());
}
