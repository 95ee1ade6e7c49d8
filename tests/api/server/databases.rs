//! Unsuitable databases are refused by name before anything is changed in them; PgBouncer.

use std::{
    fs,
    io::Write,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use cloudapi::base::error::{Code, Error};
use nix::sys::signal::Signal;
use serde_json::Value;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, postgres::PgConnectOptions};

use crate::support::{
    WAIT_LIMIT,
    binary::{Deployment, Server},
    cluster, eventually,
};

async fn run(options: &PgConnectOptions, sql: &str) {
    let mut db = PgConnection::connect_with(options).await.unwrap();
    db.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    db.close().await.unwrap();
}

async fn tables(options: &PgConnectOptions) -> i64 {
    let mut db = PgConnection::connect_with(options).await.unwrap();
    let count =
        sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetch_one(&mut db).await;
    db.close().await.unwrap();
    count.unwrap()
}

#[tokio::test]
async fn database_with_wrong_encoding_is_refused_by_name_and_unchanged() {
    let deployment = Deployment::new();
    let base = cluster::empty_database().await;
    for encoding in ["SQL_ASCII", "LATIN1", "EUC_JP"] {
        let name = format!("encoded_{}", encoding.to_lowercase());
        run(&base, &format!("CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")).await;
        let options = base.clone().database(&name);
        for command in ["migrate", "serve"] {
            let (succeeded, _, message) = deployment.run_on(&options, &[command]);
            assert!(!succeeded && message.contains(&format!("'{name}' has the encoding {encoding}")), "{message}");
            assert!(message.contains("ENCODING 'UTF8'"), "{message}");
        }
        assert_eq!(tables(&options).await, 0, "{encoding}");
        run(&base, &format!("DROP DATABASE {name}")).await;
    }
}

#[tokio::test]
async fn unsuitable_database_settings_are_refused_by_name_and_database_is_unchanged() {
    let deployment = Deployment::new();
    for (setting, says) in [
        ("default_transaction_read_only = on", "read-only by default"),
        ("search_path = nowhere", "no schema of search_path (nowhere)"),
        ("search_path = ''", "no schema of search_path"),
    ] {
        let options = cluster::empty_database().await;
        let name = options.get_database().unwrap().to_owned();
        run(&options, &format!("ALTER DATABASE {name} SET {setting}")).await;
        let (succeeded, _, message) = deployment.run_on(&options, &["migrate"]);
        assert!(!succeeded && message.contains(says), "{setting}: {message}");
        assert_eq!(tables(&options).await, 0, "{setting}");
    }
}

#[tokio::test]
async fn database_settings_that_affect_results_are_overridden() {
    let options = cluster::empty_database().await;
    let name = options.get_database().unwrap().to_owned();
    for setting in [
        "client_encoding = 'LATIN1'",
        "standard_conforming_strings = off",
        "timezone = 'Asia/Tokyo'",
        "default_transaction_isolation = 'serializable'",
        "statement_timeout = '1ms'",
    ] {
        run(&options, &format!("ALTER DATABASE {name} SET {setting}")).await;
    }
    let deployment = Deployment::new();
    let bootstrap = ["admin", "bootstrap", "--email", "owner@example.com", "--project", "Größe\\' 東京", "--json"];
    let (succeeded, printed, message) = deployment.run_on(&options, &bootstrap);
    assert!(succeeded, "{message}");
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed["project"]["name"], "Größe\\' 東京");
}

/// PgBouncer in front of the tests' PostgreSQL, killed on drop.
struct Pooler {
    child: Child,
    port: u16,
    database: String,
    _folder: tempfile::TempDir,
}

impl Pooler {
    /// `None` if PgBouncer is not installed.
    fn start(database: &PgConnectOptions, mode: &str, more: &str) -> Option<Self> {
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(|path| Path::new(path).exists());
        let Some(program) = program else {
            let _ = writeln!(std::io::stderr(), "SKIPPED: pgbouncer is not installed");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("cloudapi-pooler-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let name = database.get_database().unwrap().to_owned();
        let users = folder.path().join("users");
        fs::write(&users, format!("\"{}\" \"\"\n", database.get_username())).unwrap();
        let settings = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n{name} = host={} port={} dbname={name} user={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = {mode}\nserver_tls_sslmode = disable\n{more}\n",
            database.get_socket().unwrap().display(),
            database.get_port(),
            database.get_username(),
            users.display(),
        );
        fs::write(&settings, text).unwrap();
        let mut command = Command::new(program);
        if nix::unistd::Uid::effective().is_root() {
            // PgBouncer refuses to run as root, and needs access to the socket of the user postgres.
            command.args(["-u", "postgres"]);
        }
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = command.arg(&settings).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let pooler = Self { child, port, database: name, _folder: folder };
        let deadline = Instant::now() + WAIT_LIMIT;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = || fs::read_to_string(pooler._folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "pgbouncer does not respond: {}", log());
            thread::sleep(Duration::from_millis(5));
        }
        Some(pooler)
    }

    fn url(&self) -> String {
        format!("postgres://cloudapi@127.0.0.1:{}/{}?sslmode=disable", self.port, self.database)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn server_works_behind_pgbouncer_in_session_mode_with_its_timeouts() {
    let database = cluster::empty_database().await;
    let Some(pooler) = Pooler::start(&database, "session", "default_pool_size = 40") else { return };
    let deployment = Deployment::new();
    let mut command = deployment.command(&["serve"]);
    command.env("DATABASE_URL", pooler.url());
    let server = Server::start(command);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    eventually("lease acquired", async || {
        let ready: Value = serde_json::from_slice(
            &client.get(format!("{}/readyz", server.url)).send().await.ok()?.bytes().await.ok()?,
        )
        .ok()?;
        (ready["status"] == "ready" && ready["checks"]["lease"] == "ok").then_some(())
    })
    .await;
    server.end(Signal::SIGTERM).expect_success();

    let options: PgConnectOptions = pooler.url().parse().unwrap();
    let pool = cloudapi::db::pool(options, 2);
    for (name, value) in
        [("statement_timeout", "20s"), ("lock_timeout", "10s"), ("idle_in_transaction_session_timeout", "30s")]
    {
        let mut db = pool.acquire().await.unwrap();
        let found: String =
            sqlx::query_scalar("SELECT current_setting($1)").bind(name).fetch_one(&mut *db).await.unwrap();
        assert_eq!(found, value, "{name}");
    }
    pool.close().await;
}

#[tokio::test]
async fn pgbouncer_that_shares_sessions_is_refused_with_remedy() {
    let database = cluster::empty_database().await;
    for mode in ["transaction", "statement"] {
        for more in ["", "server_round_robin = 1", "min_pool_size = 5"] {
            let Some(pooler) = Pooler::start(&database, mode, more) else { return };
            // Server connections that other clients have used before.
            let options: PgConnectOptions = pooler.url().parse().unwrap();
            let options = options.extra_float_digits(None);
            let mut idle = Vec::new();
            for _ in 0..4 {
                let mut db = options.connect().await.unwrap();
                sqlx::raw_sql("SELECT pg_sleep(0)").execute(&mut db).await.unwrap();
                idle.push(db);
            }
            let deployment = Deployment::new();
            let output = deployment.command(&["serve"]).env("DATABASE_URL", pooler.url()).output().unwrap();
            let message = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success(), "{mode} {more}");
            assert!(message.contains("pool_mode = session"), "{mode} {more}: {message}");
        }
    }
    assert_eq!(tables(&database).await, 0, "database was changed");
}

#[tokio::test]
async fn error_of_pgbouncer_is_shown_verbatim() {
    let database = cluster::empty_database().await;
    let Some(pooler) = Pooler::start(&database, "session", "") else { return };
    let deployment = Deployment::new();
    for (url, says) in [
        (format!("{}&options=-c%20work_mem%3D1MB", pooler.url()), "unsupported startup parameter"),
        (pooler.url().replace(&pooler.database, "missing"), "no such database: missing"),
    ] {
        let output = deployment.command(&["serve"]).env("DATABASE_URL", url).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && message.contains(says), "{message}");
    }
}

#[tokio::test]
async fn connection_errors_contain_cause_and_remedy() {
    let base = cluster::empty_database().await;
    let deployment = Deployment::new();
    let (succeeded, _, message) = deployment.run_on(&base.clone().database("missing"), &["migrate"]);
    assert!(
        !succeeded && message.contains("\"missing\" does not exist") && message.contains("CREATE DATABASE"),
        "{message}"
    );
    let (succeeded, _, message) = deployment.run_on(&base.clone().username("stranger"), &["migrate"]);
    assert!(!succeeded && message.contains("stranger") && message.contains("check the user"), "{message}");
    let output =
        deployment.command(&["migrate"]).env("DATABASE_URL", "postgres://user@name.invalid/database").output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && message.contains("the host name is unknown (name.invalid:5432)"), "{message}");
}

#[tokio::test]
async fn pool_that_cannot_connect_reports_cause_and_not_overload() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://user:password@127.0.0.1:{port}/database");
    let refused = cloudapi::db::pool(url.parse().unwrap(), 1);
    let missing = cloudapi::db::pool(cluster::empty_database().await.database("missing"), 1);
    for (pool, says) in
        [(refused, format!("connection refused (127.0.0.1:{port})")), (missing, "does not exist".into())]
    {
        let error = pool.acquire().await.unwrap_err();
        assert!(error.to_string().contains(&says) && !error.to_string().contains("password"), "{error}");
        assert_eq!(Error::from(error).code(), Code::DatabaseUnavailable, "{says}");
        // More writes than the pool has connections for.
        for written in futures_util::future::join_all((0..3).map(|_| pool.acquire_for_write())).await {
            assert_eq!(Error::from(written.unwrap_err()).code(), Code::DatabaseUnavailable, "{says}");
        }
    }
}
