//! A PostgreSQL with default settings that listens on loopback.

use std::{
    env, fs,
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use cloudapi::db::embedded::{Durability, Options, PrivatePostgres};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{Result, cpu_time_of};

/// A running PostgreSQL. Dropping it stops it.
pub struct Postgres {
    child: Child,
    pub port: u16,
    pub url: String,
}

impl Postgres {
    /// Starts a PostgreSQL with its data in `folder`.
    pub fn start(folder: &Path) -> Result<Self> {
        Self::start_with(folder, &[])
    }

    /// Starts a PostgreSQL with these settings, in the form `name=value`.
    pub fn start_with(folder: &Path, settings: &[&str]) -> Result<Self> {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        let data_dir = folder.join("data");
        // Created by the product's own code, which listens only on a socket.
        let options = Options {
            data_dir: data_dir.clone(),
            pg_bin: env::var_os("CLOUDAPI_PG_BIN").map(PathBuf::from),
            durability: Durability::Durable,
            max_connections: 100,
        };
        PrivatePostgres::start(options)?.stop()?;
        let cluster = data_dir.join("postgres");
        fs::write(cluster.join("pg_hba.conf"), "host all all 127.0.0.1/32 trust\n")?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let owner = fs::metadata(&cluster)?;
        let child = Command::new(program("postgres")?)
            .arg("-D")
            .arg(&cluster)
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            .args(["-c", &format!("port={port}")])
            .args(settings.iter().flat_map(|setting| ["-c", setting]))
            .uid(owner.uid())
            .gid(owner.gid())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("postgres.log"))?)
            .spawn()?;
        let started =
            Self { child, port, url: format!("postgres://cloudapi@127.0.0.1:{port}/postgres?sslmode=disable") };
        let deadline = Instant::now() + Duration::from_secs(20);
        // As pg_ctl waits: PostgreSQL listens before it is ready, and then writes so into this file.
        let state = cluster.join("postmaster.pid");
        while !fs::read_to_string(&state).is_ok_and(|text| text.lines().any(|line| line.trim() == "ready")) {
            if Instant::now() > deadline {
                return Err("PostgreSQL did not start".into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(started)
    }

    /// The CPU time of all processes that run.
    pub fn cpu_time(&self) -> Result<Duration> {
        let server = self.child.id();
        let children = fs::read_to_string(format!("/proc/{server}/task/{server}/children"))?;
        let children = children.split_whitespace().filter_map(|process| process.parse().ok());
        Ok(children.chain([server]).filter_map(cpu_time_of).sum())
    }

    /// Creates another database. Returns its URL.
    pub async fn database(&self, name: &'static str) -> Result<String> {
        let mut db = PgConnection::connect(&self.url).await?;
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut db).await?;
        Ok(self.url.replace("/postgres?", &format!("/{name}?")))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Ok(id) = i32::try_from(self.child.id()) {
            // The child is not reaped yet, so its process ID is not reused.
            let _ = kill(Pid::from_raw(id), Signal::SIGINT);
        }
        let _ = self.child.wait();
    }
}

/// The path of a PostgreSQL program, of the newest installed version.
pub fn program(name: &str) -> Result<PathBuf> {
    let given = env::var_os("CLOUDAPI_PG_BIN").map(PathBuf::from);
    let mut installed: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .collect();
    installed.sort();
    let folders = given.into_iter().chain(installed.into_iter().rev());
    let found = folders.map(|folder| folder.join(name)).find(|program| program.exists());
    found.ok_or_else(|| {
        format!("{name} was not found; set CLOUDAPI_PG_BIN to the folder with the PostgreSQL programs").into()
    })
}
