//! Settings: parsing, errors for invalid values, and no secret in any output.

use std::{fs, process::Output};

use nix::sys::signal::Signal;

use crate::support::{
    binary::{Deployment, Server},
    cluster,
};

const SECRET: &str = "hunter2-5ecret";

/// A setting, as listed by `--help`.
#[derive(Debug)]
struct Setting {
    variable: String,
    flag: String,
    /// Value name, such as `URL`.
    kind: String,
}

/// All settings.
fn settings(deployment: &Deployment) -> Vec<Setting> {
    let help = deployment.printed(&["serve", "--help"]);
    let (mut settings, mut last) = (Vec::new(), (String::new(), String::new()));
    for line in help.lines().map(str::trim) {
        if let Some((flag, kind)) = line.split_once(" <").filter(|(flag, _)| flag.starts_with("--")) {
            last = (flag.to_owned(), kind.trim_end_matches('>').to_owned());
        }
        if let Some((_, rest)) = line.split_once("[env: ") {
            let variable = rest.split([']', '=']).next().unwrap().to_owned();
            settings.push(Setting { variable, flag: last.0.clone(), kind: last.1.clone() });
        }
    }
    assert!(settings.len() >= 25, "{settings:?}");
    settings
}

fn combined_output(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Misplaced values, each with a secret in it.
fn secrets() -> [String; 6] {
    [
        SECRET.to_owned(),
        format!("postgres://user:{SECRET}@127.0.0.1:port/database"),
        format!("mysql://user:{SECRET}@127.0.0.1/database"),
        format!("postgres://user@127.0.0.1:1/database?passwort={SECRET}"),
        format!("https://user:{SECRET}@example.com"),
        format!("-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n"),
    ]
}

#[test]
fn no_error_shows_a_secret_in_a_setting() {
    let deployment = Deployment::new();
    for setting in settings(&deployment) {
        // A folder's path is not secret, and an error must show it.
        if setting.kind == "DIR" {
            continue;
        }
        for value in secrets() {
            // An invalid port number or switch is shown.
            let is_plain = value == SECRET && !["URL", "FILE", "ORIGINS"].contains(&setting.kind.as_str());
            let start = |from_flag: bool| {
                let mut command = deployment.command(&["serve"]);
                // Even with valid settings, the server does not start.
                command.env("CLOUDAPI_PG_BIN", "/nonexistent").env("RUST_LOG", "trace");
                // Each is read only together with the other.
                if setting.variable == "CLOUDAPI_TLS_KEY" || setting.variable == "CLOUDAPI_TLS_CERT" {
                    command.env("CLOUDAPI_TLS_CERT", "/etc/hostname").env("CLOUDAPI_TLS_KEY", "/etc/hostname");
                }
                if from_flag {
                    command.env_remove(&setting.variable).arg(format!("{}={value}", setting.flag));
                } else {
                    command.env(&setting.variable, &value);
                }
                command.output().unwrap()
            };
            // The same code handles flags, so one kind of value is enough.
            let ways: &[bool] = if value.starts_with("postgres") { &[false, true] } else { &[false] };
            for &from_flag in ways {
                let output = start(from_flag);
                assert!(!output.status.success(), "{setting:?} {value}");
                let output_text = combined_output(&output);
                assert!(is_plain || !output_text.contains(SECRET), "{setting:?} {value}: {output_text}");
            }
        }
    }
}

#[test]
fn help_shows_no_values_of_settings() {
    let deployment = Deployment::new();
    let settings = settings(&deployment);
    for arguments in [
        &["--help"][..],
        &["-h"],
        &["serve", "--help"],
        &["migrate", "--help"],
        &["admin", "session", "--help"],
        &["help", "serve"],
    ] {
        let mut command = deployment.command(arguments);
        for setting in &settings {
            command.env(&setting.variable, SECRET);
        }
        let output = command.output().unwrap();
        let output_text = combined_output(&output);
        assert!(output.status.success() && output_text.contains("DATABASE_URL"), "{output_text}");
        assert!(!output_text.contains(SECRET), "{arguments:?}: {output_text}");
    }
}

#[test]
fn password_is_not_shown_when_the_database_is_unreachable() {
    let deployment = Deployment::new();
    for (url, says) in [
        (format!("postgres://user:{SECRET}@127.0.0.1:1/database"), "connection refused"),
        (format!("postgres://user:{SECRET}@name.invalid/database"), "name.invalid"),
        (format!("postgres:///database?host=/nonexistent&password={SECRET}"), "/nonexistent"),
    ] {
        let output =
            deployment.command(&["migrate"]).env("DATABASE_URL", url).env("RUST_LOG", "trace").output().unwrap();
        let output_text = combined_output(&output);
        assert!(!output.status.success() && output_text.contains(says), "{output_text}");
        assert!(!output_text.contains(SECRET), "{output_text}");
    }
}

#[test]
fn password_in_an_unexpected_argument_is_not_shown() {
    let deployment = Deployment::new();
    let url = format!("postgres://user:{SECRET}@127.0.0.1/database");
    for arguments in [vec![url.as_str()], vec!["migrate", &url], vec!["serve", &url], vec!["--databse-url", &url]] {
        let output = deployment.run(&arguments);
        let output_text = combined_output(&output);
        assert_eq!(output.status.code(), Some(2), "{output_text}");
        assert!(!output_text.contains(SECRET), "{arguments:?}: {output_text}");
    }
}

#[test]
fn malformed_dotenv_line_is_reported_with_its_number_and_key() {
    let deployment = Deployment::new();
    for (line, says) in [
        (format!("DATABASE_URL postgres://user:{SECRET}@host/database"), ".env, line 2: "),
        (format!("DATABASE_URL='postgres://user:{SECRET}@host/database"), ".env, line 2 (DATABASE_URL): "),
        (format!("DATABASE_URL=\"{SECRET}\" {SECRET}"), ".env, line 2 (DATABASE_URL): "),
        (SECRET.to_owned(), ".env, line 2: "),
        (format!("{SECRET}=1"), ".env, line 2: "),
    ] {
        fs::write(deployment.folder().join(".env"), format!("# settings\n{line}\n")).unwrap();
        let output = deployment.run(&["migrate"]);
        let output_text = combined_output(&output);
        assert_eq!(output.status.code(), Some(2), "{output_text}");
        assert!(output_text.contains(says) && !output_text.contains(SECRET), "{line}: {output_text}");
    }
}

#[tokio::test]
async fn dotenv_file_is_read_literally_and_the_environment_takes_precedence() {
    let deployment = Deployment::prepared();
    fs::write(
        deployment.folder().join(".env"),
        "export CLOUDAPI_PUBLIC_URL='https://from.example/$HOME/${PATH}'\nCLOUDAPI_LISTEN=nonsense\n",
    )
    .unwrap();
    let server = Server::start(deployment.command(&[]));
    assert_eq!(server.url, "https://from.example/$HOME/${PATH}");
    server.end(Signal::SIGTERM).expect_success();
}

#[tokio::test]
async fn port_without_host_listens_on_loopback() {
    let deployment = Deployment::prepared();
    for (listen, metrics) in [("0", "0"), (":0", "localhost:0")] {
        let mut command = deployment.command(&["--listen", listen, "--metrics-listen", metrics]);
        command.env_remove("CLOUDAPI_LISTEN");
        let server = Server::start(command);
        assert!(server.url.starts_with("http://127.0.0.1:"), "{}", server.url);
        server.end(Signal::SIGTERM).expect_success();
    }
}

#[tokio::test]
async fn invalid_setting_prevents_the_start_with_one_line_that_names_it() {
    let deployment = Deployment::new();
    let missing = cluster::url(&cluster::empty_database().await.database("missing"));
    for (status, name, value, reason) in [
        (2, "CLOUDAPI_LISTEN", "localhost", "such as 8081"),
        (2, "CLOUDAPI_LISTEN", "0.0.0.0", "0.0.0.0:8080"),
        (2, "CLOUDAPI_METRICS_LISTEN", "99999", "such as 9464"),
        (2, "CLOUDAPI_PUBLIC_URL", "example.com", "http or https"),
        (2, "CLOUDAPI_RATE_LIMIT", "lots", "600/60"),
        (2, "CLOUDAPI_HEAD_TIMEOUT_SECONDS", "0", "whole seconds, from 1"),
        (2, "CLOUDAPI_BODY_TIMEOUT_SECONDS", "10s", "whole seconds, from 1"),
        (2, "CLOUDAPI_IDLE_TIMEOUT_SECONDS", "1000000", "whole seconds, from 1"),
        (2, "CLOUDAPI_DRAIN_DELAY_SECONDS", "-1", "whole seconds, from 0"),
        (2, "CLOUDAPI_MAX_CONNECTIONS", "0", "whole number, from 1"),
        (2, "CLOUDAPI_MAX_REQUESTS", "many", "CLOUDAPI_MAX_REQUESTS (--max-requests) = 'many'"),
        (2, "CLOUDAPI_CORS_ORIGINS", "*", "list the origins of yours"),
        (2, "CLOUDAPI_CORS_ORIGINS", "https://a.example,https://b.example/", "not even a slash"),
        (2, "CLOUDAPI_TLS_CERT", "/nonexistent", "CLOUDAPI_TLS_KEY (--tls-key) is not; set both"),
        (2, "CLOUDAPI_LOG_FORMAT", "xml", "pretty, json"),
        (2, "CLOUDAPI_DATA_DIR", "", "empty"),
        (2, "CLOUDAPI_PROVIDERS", "/nonexistent", "CLOUDAPI_PROVIDERS"),
        (2, "CLOUDAPI_SECRET_KEY_FILE", "/etc/hostname", "/etc/hostname cannot be used"),
        (2, "DATABASE_URL", "nonsense", "postgres://"),
        (2, "DATABASE_URL", "mysql://user@host/database", "is a mysql:// URL, and cloudapi needs PostgreSQL"),
        (2, "DATABASE_URL", "postgres://host/database?sslmod=require", "did you mean 'sslmode'"),
        (2, "DATABASE_URL", "postgres://host:port/database", "not a valid URL"),
        (2, "RUST_LOG", "a=b=c", "RUST_LOG"),
        // Valid values that do not work here.
        (1, "CLOUDAPI_LISTEN", "192.0.2.1:80", "CLOUDAPI_LISTEN"),
        (1, "CLOUDAPI_PG_BIN", "/nonexistent", "CLOUDAPI_PG_BIN"),
        (1, "DATABASE_URL", &missing, "the database's name in DATABASE_URL"),
    ] {
        let output = deployment.command(&["serve"]).env(name, value).output().unwrap();
        let output_text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{name}={value}: {output_text}");
        let errors: Vec<_> = output_text.lines().filter(|line| line.starts_with("cloudapi: ")).collect();
        assert!(matches!(errors[..], [line] if line.contains(reason)), "{name}={value}: {output_text}");
    }
}
