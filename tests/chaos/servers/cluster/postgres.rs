//! The PostgreSQL of a cluster, and its standby.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use cloudapi::db::{
    self,
    embedded::{Options, PrivatePostgres},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sqlx::{Connection, PgConnection, postgres::PgPoolOptions};
use tokio::task::spawn_blocking;

use super::{Cluster, eventually};
use crate::servers::standby;

impl Cluster {
    pub async fn stop_postgres(&mut self) {
        let postgres = self.postgres.take().expect("a running PostgreSQL");
        spawn_blocking(move || postgres.stop().unwrap()).await.unwrap();
    }

    pub async fn start_postgres(&mut self) {
        self.postgres = Some(start_postgres(&self.postgres_options).await);
    }

    /// Sends `kill -9` to the postmaster. The other PostgreSQL processes notice and exit.
    pub fn kill_postgres(&self) {
        // The postmaster is an unreaped child of this process, so its process ID is not reused.
        kill(self.postmaster(), Signal::SIGKILL).unwrap();
    }

    /// The process ID of the postmaster.
    fn postmaster(&self) -> Pid {
        let pid_file = fs::read_to_string(self.postgres_options.data_dir.join("postgres/postmaster.pid")).unwrap();
        Pid::from_raw(pid_file.lines().next().unwrap().parse().unwrap())
    }

    /// Sends SIGSTOP to every PostgreSQL process.
    pub fn stop_postgres_processes(&self) -> StoppedProcesses {
        let postmaster = self.postmaster();
        // Stop the postmaster first, because it starts other processes.
        kill(postmaster, Signal::SIGSTOP).unwrap();
        let mut stopped = StoppedProcesses(vec![postmaster]);
        for child in children(postmaster) {
            // A child that has just exited is not reaped yet, so its process ID is not reused.
            if kill(child, Signal::SIGSTOP).is_ok() {
                stopped.0.push(child);
            }
        }
        stopped
    }

    /// Restarts a killed PostgreSQL, which first replays its log.
    pub async fn revive_postgres(&mut self) {
        let mut postgres = self.postgres.take().expect("a killed PostgreSQL");
        let deadline = Instant::now() + Duration::from_secs(10);
        self.postgres = Some(
            spawn_blocking(move || {
                while !postgres.restart_if_exited().unwrap() {
                    assert!(Instant::now() < deadline, "PostgreSQL survived kill -9");
                    std::thread::sleep(Duration::from_millis(3));
                }
                postgres
            })
            .await
            .unwrap(),
        );
    }

    /// Adds a synchronous standby to PostgreSQL. From now on, every commit waits for it.
    pub async fn start_standby(&mut self) {
        let (primary, options) = (self.postgres.take().expect("a running PostgreSQL"), self.postgres_options.clone());
        let folder = self.slot.folder.join("standby");
        let (primary, standby) = spawn_blocking(move || {
            let standby = standby::start(&primary, &options, folder);
            (primary, standby)
        })
        .await
        .unwrap();
        (self.postgres, self.standby) = (Some(primary), Some(standby));
        let sql = format!("ALTER SYSTEM SET synchronous_standby_names = '{}'", standby::NAME);
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&self.db).await.unwrap();
        sqlx::query("SELECT pg_reload_conf()").execute(&self.db).await.unwrap();
        eventually("the standby is synchronous", async || {
            let sql = "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')";
            let is_sync: bool = sqlx::query_scalar(sql).fetch_one(&self.db).await.unwrap();
            is_sync.then_some(())
        })
        .await;
    }

    /// The socket of the standby.
    pub fn standby_socket(&self) -> PathBuf {
        socket_of(self.standby.as_ref().expect("a standby"))
    }

    /// The socket of the original primary.
    pub fn primary_socket(&self) -> PathBuf {
        socket_of(self.postgres.as_ref().expect("a running PostgreSQL"))
    }

    /// Runs a statement on the standby.
    pub async fn on_standby(&self, sql: &'static str) {
        let standby = self.standby.as_ref().expect("a standby");
        let mut db = PgConnection::connect_with(&db::options_for_private(standby.endpoint())).await.unwrap();
        sqlx::query(sql).execute(&mut db).await.unwrap();
        db.close().await.unwrap();
    }

    /// Promotes the standby, whether or not the old primary runs. The harness's own connections then use the standby.
    pub async fn promote_standby(&mut self) {
        self.on_standby("SELECT pg_promote(true, 60)").await;
        let standby = self.standby.as_ref().expect("a standby");
        self.db =
            PgPoolOptions::new().max_connections(4).connect_lazy_with(db::options_for_private(standby.endpoint()));
    }

    /// Terminates up to `count` of the servers' connections in PostgreSQL. Returns how many it terminated.
    pub async fn terminate_backends(&self, count: usize) -> usize {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE application_name LIKE 'cloudapi%' AND datname = current_database() ORDER BY random() LIMIT $1";
        let limit = i64::try_from(count).unwrap();
        // The harness's own connection may be broken after a restart of PostgreSQL.
        eventually("PostgreSQL answers the harness", async || {
            sqlx::query(sql).bind(limit).fetch_all(&self.db).await.ok().map(|rows| rows.len())
        })
        .await
    }
}

/// Stopped processes. They continue when this is dropped.
pub struct StoppedProcesses(Vec<Pid>);

impl StoppedProcesses {
    /// Sends SIGCONT.
    pub fn resume(self) {}
}

impl Drop for StoppedProcesses {
    fn drop(&mut self) {
        for process in self.0.iter().rev() {
            let _ = kill(*process, Signal::SIGCONT);
        }
    }
}

/// The running child processes of `parent`.
fn children(parent: Pid) -> Vec<Pid> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.split_whitespace().map(|id| Pid::from_raw(id.parse().unwrap())).collect()
}

/// The socket that this PostgreSQL listens on.
pub(super) fn socket_of(postgres: &PrivatePostgres) -> PathBuf {
    postgres.endpoint().socket_dir.join(format!(".s.PGSQL.{}", postgres.endpoint().port))
}

pub(super) async fn start_postgres(options: &Options) -> PrivatePostgres {
    let options = options.clone();
    spawn_blocking(move || PrivatePostgres::start(options).unwrap()).await.unwrap()
}
