//! What the binary prints, on a terminal and into a pipe, and when its output is closed.

use std::{
    fs::{self, File},
    io::Read,
    process::{Child, Stdio},
};

use nix::{pty::openpty, sys::signal::Signal};
use serde_json::{Value, json};

use super::{call, get, session};
use crate::support::{binary::Deployment, eventually};

#[tokio::test]
async fn secrets_are_shown_only_on_a_terminal() {
    let deployment = Deployment::new();
    let server = deployment.serve();
    let secret = session(&deployment);
    assert_eq!(get(&server, "/v1/projects", &secret).await.0, 200);
    let ended = server.end(Signal::SIGTERM);
    let all = ended.output.join("\n") + &ended.errors.join("\n");
    assert!(all.contains("cloudapi admin session --email ada@example.com"), "{all}");
    for prefix in ["sess_", "sk_live_", "cap_", "lnk_"] {
        let shown = all.split(prefix).skip(1).any(|rest| rest.chars().take(40).all(|c| c.is_ascii_alphanumeric()));
        assert!(!shown, "{all}");
    }

    let (child, url, secrets) = shown_on_a_terminal(&deployment);
    for secret in secrets {
        assert_eq!(call("GET", &format!("{url}/v1/projects"), Some(&secret), None).await.0, 200);
    }
    stop(child);
}

/// Starts a server with a terminal as its standard output. Returns its URL and the session and key that it shows.
fn shown_on_a_terminal(deployment: &Deployment) -> (Child, String, [String; 2]) {
    let pty = openpty(None, None).unwrap();
    let mut command = deployment.command(&["serve"]);
    command.stdout(Stdio::from(pty.slave)).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    drop(command);
    let mut terminal = File::from(pty.master);
    let mut shown = String::new();
    while !shown.contains("Ctrl-C") {
        let mut buffer = [0; 4096];
        let read = terminal.read(&mut buffer).unwrap();
        shown.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    let exported = |name: &str| {
        let (_, rest) = shown.split_once(&format!("export {name}=")).unwrap_or_else(|| panic!("no {name} in {shown}"));
        rest.split_whitespace().next().unwrap().to_owned()
    };
    (child, exported("CLOUDAPI_URL"), [exported("CLOUDAPI_SESSION"), exported("CLOUDAPI_TOKEN")])
}

fn stop(mut child: Child) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
}

#[tokio::test]
async fn starts_on_a_terminal_leave_one_quick_start_key_and_one_session() {
    let deployment = Deployment::prepared();
    let mut before: Option<[String; 2]> = None;
    for start in 0..3 {
        let (child, url, shown) = shown_on_a_terminal(&deployment);
        for secret in &shown {
            assert_eq!(call("GET", &format!("{url}/v1/projects"), Some(secret), None).await.0, 200);
        }
        for ended in before.iter().flatten() {
            assert_eq!(call("GET", &format!("{url}/v1/projects"), Some(ended), None).await.0, 401);
        }
        let [session, _] = &shown;
        let keys = format!("{url}/v1/keys?project_id=proj_8f2c4&status=active");
        let (_, keys) = call("GET", &keys, Some(session), None).await;
        let quick: Vec<&Value> =
            keys["data"].as_array().unwrap().iter().filter(|key| key["name"] == "quick start").collect();
        assert_eq!(quick.len(), 1, "{keys}");
        let (_, sessions) = call("GET", &format!("{url}/v1/sessions"), Some(session), None).await;
        assert_eq!(sessions["data"].as_array().unwrap().len(), 1, "{sessions}");
        if start == 1 {
            // A key that its owner revoked is not restored.
            let id = quick[0]["id"].as_str().unwrap();
            assert_eq!(call("DELETE", &format!("{url}/v1/keys/{id}"), Some(session), None).await.0, 200);
        }
        before = Some(shown);
        stop(child);
    }
}

#[tokio::test]
async fn console_link_signs_in_at_the_address_of_the_server() {
    let deployment = Deployment::new();
    let server = deployment.serve();
    let link = |arguments: &[&str]| {
        let command = ["admin", "console-link", "--email", "ada@example.com"];
        deployment.printed(&[&command[..], arguments].concat()).trim().to_owned()
    };
    let printed = link(&["--listen", "0.0.0.0:8081"]);
    let secret = printed.strip_prefix("http://127.0.0.1:8081/console/sign-in?link=").expect(&printed).to_owned();
    let printed = link(&["--public-url", "https://api.example.com/", "--json"]);
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert!(printed["url"].as_str().unwrap().starts_with("https://api.example.com/console/sign-in?link=lnk_"));
    assert!(printed["expires_at"].is_string());

    let sign_in = async || {
        let body = Some(json!({ "sign_in_link": secret }));
        call("POST", &format!("{}/v1/sessions", server.url), None, body).await
    };
    let (status, session) = sign_in().await;
    assert_eq!((status, &session["user"]["email"]), (201, &json!("ada@example.com")));
    assert_eq!(sign_in().await.0, 401);
    for wrong in [&["--email", "nobody@example.com", "--listen", "1"][..], &["--email", "ada@example.com"]] {
        // The test's deployment listens on any port.
        assert!(!deployment.run(&[&["admin", "console-link"], wrong].concat()).status.success());
    }
    let ended = server.end(Signal::SIGTERM);
    let all = ended.output.join("\n") + &ended.errors.join("\n");
    assert!(all.contains("cloudapi admin console-link --email ada@example.com") && !all.contains("lnk_"), "{all}");
}

#[test]
fn closed_pipe_ends_every_command_without_an_error() {
    let deployment = Deployment::prepared();
    let export = deployment.folder().join("export");
    // Creates the deployment's server key.
    deployment.serve().end(Signal::SIGTERM).expect_success();
    deployment.printed(&["admin", "bootstrap", "--email", "owner@example.com", "--project", "First"]);
    fs::write(&export, deployment.printed(&["audit", "export", "--deployment"])).unwrap();
    let export = export.display().to_string();
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["openapi"],
        &["admin", "session", "--email", "owner@example.com"],
        &["admin", "console-link", "--email", "owner@example.com", "--public-url", "https://console.example"],
        &["admin", "bootstrap", "--email", "owner@example.com", "--project", "First"],
        &["audit", "key"],
        &["audit", "export", "--deployment"],
        &["audit", "verify", &export],
        &["usage", "journals"],
        &["usage", "report"],
    ] {
        let mut child = deployment.command(arguments).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {message}");
        assert!(!message.contains("pipe") && !message.contains("panicked"), "{arguments:?}: {message}");
    }
}

#[tokio::test]
async fn server_keeps_running_when_its_output_is_closed() {
    let deployment = Deployment::prepared();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut child = deployment.command(&["serve", "--listen", &port.to_string()]).spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ready = format!("http://127.0.0.1:{port}/readyz");
    eventually("the server to be ready", async || {
        client.get(&ready).send().await.is_ok_and(|reply| reply.status() == 200).then_some(())
    })
    .await;
    stop(child);
}
