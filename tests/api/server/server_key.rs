//! The server key: created once, readable only by its owner, and the same on all servers of a deployment.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
    process::Command,
};

use nix::sys::signal::Signal;
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

use crate::support::{
    binary::{Deployment, Server},
    cluster,
};

fn key_file(deployment: &Deployment) -> PathBuf {
    deployment.folder().join("data/secret.key")
}

/// `serve` command of `deployment` on a shared database.
fn on(deployment: &Deployment, database: &PgConnectOptions) -> Command {
    let mut command = deployment.command(&["serve"]);
    command.env("DATABASE_URL", cluster::url(database));
    command
}

/// Runs a server that must fail to start. Returns its error output.
fn startup_error(mut command: Command) -> String {
    let output = command.output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(output.stdout.is_empty(), "unexpected output");
    message
}

fn start_server(command: Command) -> Server {
    let server = Server::start(command);
    server.wait_for_error("\"message\":\"ready\"");
    server
}

#[tokio::test]
async fn key_is_created_with_mode_600_and_reused() {
    let (deployment, database) = (Deployment::new(), cluster::fresh_database().await);
    let ended = start_server(on(&deployment, &database)).end(Signal::SIGTERM);
    ended.expect_success();
    let made = fs::read_to_string(key_file(&deployment)).unwrap();
    assert_eq!(made.trim().len(), 64);
    assert_eq!(fs::metadata(key_file(&deployment)).unwrap().mode() & 0o777, 0o600);

    let server = Server::start(on(&deployment, &database));
    let ended = server.end(Signal::SIGTERM);
    assert!(!ended.errors.iter().any(|line| line.contains("secret.key")), "{:?}", ended.errors);
    assert_eq!(fs::read_to_string(key_file(&deployment)).unwrap(), made);
}

#[tokio::test]
async fn new_key_is_logged_and_a_key_readable_by_others_is_warned_about() {
    let (deployment, database) = (Deployment::new(), cluster::fresh_database().await);
    let server = Server::start(on(&deployment, &database));
    server.wait_for_error("created the deployment's key");
    server.end(Signal::SIGTERM).expect_success();
    fs::set_permissions(key_file(&deployment), fs::Permissions::from_mode(0o644)).unwrap();
    let server = Server::start(on(&deployment, &database));
    server.wait_for_error("chmod 600");
    server.end(Signal::SIGTERM).expect_success();
}

#[tokio::test]
async fn server_with_a_different_key_than_its_deployment_fails_with_a_remedy() {
    let (first, second, database) = (Deployment::new(), Deployment::new(), cluster::fresh_database().await);
    start_server(on(&first, &database)).end(Signal::SIGTERM).expect_success();

    let message = startup_error(on(&second, &database));
    assert!(message.contains("copy the file") && message.contains("CLOUDAPI_SECRET_KEY_FILE"), "{message}");
    // The suggested remedy works.
    let mut command = on(&second, &database);
    command.env("CLOUDAPI_SECRET_KEY_FILE", key_file(&first));
    start_server(command).end(Signal::SIGTERM).expect_success();
}

#[tokio::test]
async fn of_two_first_servers_with_different_keys_one_serves() {
    let (first, second, database) = (Deployment::new(), Deployment::new(), cluster::fresh_database().await);
    let starts = [&first, &second].map(|deployment| {
        let command = on(deployment, &database);
        std::thread::spawn(move || Server::try_start(command))
    });
    let (mut serving, mut refused) = (Vec::new(), Vec::new());
    for start in starts {
        match start.join().unwrap() {
            Ok(server) => serving.push(server),
            Err(message) => refused.push(message),
        }
    }
    assert!(matches!(&refused[..], [message] if message.contains("CLOUDAPI_SECRET_KEY_FILE")), "{refused:?}");
    for server in serving {
        server.end(Signal::SIGTERM).expect_success();
    }
}

#[tokio::test]
async fn servers_that_concurrently_create_a_key_in_one_folder_use_the_same_key() {
    let (deployment, database) = (Deployment::new(), cluster::fresh_database().await);
    let servers: Vec<Server> = (0..4).map(|_| Server::start(on(&deployment, &database))).collect();
    // With different keys, only the first server would start.
    for server in servers {
        server.wait_for_error("\"message\":\"ready\"");
        server.end(Signal::SIGTERM).expect_success();
    }
    let left: Vec<_> =
        fs::read_dir(deployment.folder().join("data")).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".secret")), "{left:?}");
}

#[tokio::test]
async fn invalid_key_file_is_named_and_not_overwritten() {
    let deployment = Deployment::new();
    let data = deployment.folder().join("data");
    fs::create_dir(&data).unwrap();
    for text in ["", "not a key", &"0".repeat(63)] {
        fs::write(key_file(&deployment), text).unwrap();
        let output = deployment.run(&["serve"]);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && message.contains("secret.key") && message.contains("64 hexadecimal"),
            "{message}"
        );
        assert_eq!(fs::read_to_string(key_file(&deployment)).unwrap(), text);
    }
    let missing = deployment.folder().join("elsewhere.key");
    let output = deployment.command(&["serve"]).env("CLOUDAPI_SECRET_KEY_FILE", &missing).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    // A configured file is not created: its key would exist on this machine only.
    assert!(message.contains("elsewhere.key") && message.contains("openssl rand -hex 32"), "{message}");
    assert!(!missing.exists());
}

#[tokio::test]
async fn commands_that_do_not_use_the_key_do_not_need_it() {
    let (first, second, database) = (Deployment::new(), Deployment::new(), cluster::fresh_database().await);
    start_server(on(&first, &database)).end(Signal::SIGTERM).expect_success();
    let arguments = ["admin", "bootstrap", "--email", "ada@example.com", "--project", "P", "--json"];
    let (done, _, message) = second.run_on(&database, &arguments);
    assert!(done, "{message}");
    assert!(!key_file(&second).exists());
}

#[tokio::test]
async fn lost_key_can_be_replaced_and_the_replacement_is_audited() {
    let (lost, new, database) = (Deployment::new(), Deployment::new(), cluster::fresh_database().await);
    start_server(on(&lost, &database)).end(Signal::SIGTERM).expect_success();
    startup_error(on(&new, &database));
    let (done, message, _) = new.run_on(&database, &["admin", "replace-key", "--json"]);
    assert!(done && message.contains("\"replaced\":true"), "{message}");
    let (done, message, _) = new.run_on(&database, &["admin", "replace-key", "--json"]);
    assert!(done && message.contains("\"replaced\":false"), "{message}");
    start_server(on(&new, &database)).end(Signal::SIGTERM).expect_success();
    startup_error(on(&lost, &database));
    let mut db = PgConnection::connect_with(&database).await.unwrap();
    let sql = "SELECT convert_from(payload, 'UTF8') FROM audit_entries WHERE action = 'deployment.key_replaced'";
    let entries: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut db).await.unwrap();
    let key = fs::read_to_string(key_file(&new)).unwrap();
    assert!(entries.len() == 1 && !entries[0].contains(key.trim()), "{entries:?}");
    assert!(entries[0].contains("\"type\":\"operator\""), "{entries:?}");
}
