//! A private PostgreSQL, used if `DATABASE_URL` is not set.
//!
//! Its files are in the data directory. It listens on a Unix socket in a folder that only we may enter, so it needs no
//! port and no password. One server owns it at a time ([`owner`]). It ends with that server, however the server ends
//! ([`lifeline`]). A PostgreSQL that is still running is stopped at the next start, never adopted ([`postmaster`]).

mod cluster;
mod error;
mod find;
mod folders;
mod hint;
mod lifeline;
mod log;
mod postmaster;

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

pub use error::Error;
use folders::{account::Account, owner::Owner};
use lifeline::Lifeline;
use log::Log;
use postmaster::Holder;

/// Superuser that initdb creates.
const USER: &str = "cloudapi";
/// Database that initdb creates. The cluster is not shared, so a separate database has no benefit.
const DATABASE: &str = "postgres";
/// Port number, which is only a part of the socket's name.
const PORT: u16 = 5432;
/// Time limit for the start of PostgreSQL. After a crash it first replays its log.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Time limit for a command to wait for the PostgreSQL of a server that is starting.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between checks for something that takes milliseconds.
const POLL_INTERVAL: Duration = Duration::from_millis(3);

/// Options of a private PostgreSQL.
#[derive(Clone, Debug)]
pub struct Options {
    /// Data directory. Created if missing.
    pub data_dir: PathBuf,
    /// Folder of PostgreSQL's server programs. If unset, they are searched for.
    pub pg_bin: Option<PathBuf>,
    /// Whether commits must survive a crash of the machine.
    pub durability: Durability,
    /// Maximum number of connections.
    pub max_connections: u32,
}

/// Whether commits must survive a crash of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Commits survive.
    Durable,
    /// Commits may be lost. For tests.
    Volatile,
}

/// Address of a private PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Folder of the Unix socket.
    pub socket_dir: PathBuf,
    /// Port in the socket's name.
    pub port: u16,
    /// User to connect as, without a password.
    pub user: String,
    /// Database to use.
    pub database: String,
}

impl Endpoint {
    fn at(socket_dir: PathBuf, port: u16) -> Self {
        Self { socket_dir, port, user: USER.into(), database: DATABASE.into() }
    }

    fn socket(&self) -> PathBuf {
        self.socket_dir.join(folders::socket_name(self.port))
    }
}

/// A running private PostgreSQL. Dropping it also stops it, but does not wait.
#[derive(Debug)]
pub struct PrivatePostgres {
    options: Options,
    running: Running,
    // The last field, so that the data directory is released last.
    _owner: Owner,
}

#[derive(Debug)]
struct Running {
    endpoint: Endpoint,
    is_new: bool,
    lifeline: Lifeline,
}

impl PrivatePostgres {
    /// Starts PostgreSQL, and returns when it accepts connections. Blocks for a tenth of a second, a second the first
    /// time, and longer only after a crash.
    pub fn start(options: Options) -> Result<Self, Error> {
        let data_dir = folders::create_data_dir(&options.data_dir)?;
        let options = Options { data_dir, ..options };
        let owner = Owner::lock(&options.data_dir)?;
        Ok(Self { running: launch(&options)?, options, _owner: owner })
    }

    /// Restarts PostgreSQL if it has exited, for example because the system ran out of memory. Returns whether it had
    /// exited. Blocks like [`PrivatePostgres::start`].
    pub fn restart_if_exited(&mut self) -> Result<bool, Error> {
        if self.running.lifeline.exit_status()?.is_none() {
            return Ok(false);
        }
        self.running = launch(&self.options)?;
        Ok(true)
    }

    /// Address.
    pub fn endpoint(&self) -> &Endpoint {
        &self.running.endpoint
    }

    /// Whether this start created the cluster, which is then empty.
    pub fn is_new(&self) -> bool {
        self.running.is_new
    }

    /// Stops PostgreSQL cleanly, disconnects its clients, and releases the data directory.
    pub fn stop(mut self) -> Result<(), Error> {
        let data_dir = &self.options.data_dir;
        self.running.lifeline.signal_stop();
        // Waiting for our child is not sufficient: if the lifeline's shell was killed, PostgreSQL must be stopped here.
        let lock = folders::open(&data_dir.join(postmaster::LOCK), 0o600)?;
        postmaster::stop_previous(&cluster::path(data_dir), &lock)?;
        self.running.lifeline.reap()?;
        // A failure is harmless, because the next start recreates the folder.
        let _ = fs::remove_dir(&self.running.endpoint.socket_dir);
        Ok(())
    }
}

/// Starts PostgreSQL in a data directory that this process owns, and waits until it accepts connections.
fn launch(options: &Options) -> Result<Running, Error> {
    let data_dir = &options.data_dir;
    let cluster = cluster::path(data_dir);
    let account = Account::choose(&cluster)?;
    account.check_access(data_dir)?;
    let programs = find::find(&account, options.pg_bin.as_deref(), cluster::major(&cluster)?)?;

    // All PostgreSQL processes of this data directory hold this lock, so from now on no other one runs.
    let lock = folders::open(&data_dir.join(postmaster::LOCK), 0o600)?;
    postmaster::stop_previous(&cluster, &lock)?;
    let log = Log::start(data_dir)?;
    let launcher = lifeline::Launcher { account: &account, lock: &lock, log: &log };

    let is_new = cluster::create_if_missing(data_dir, &launcher, &programs, options.durability)?;
    postmaster::remove_stale(&cluster)?;
    cluster::restore_version_file(&cluster, &account)?;
    let endpoint = Endpoint::at(folders::create_run_dir(data_dir, &account)?, PORT);
    let arguments = cluster::arguments(&cluster, &endpoint, options.durability, options.max_connections);
    let mut lifeline = launcher.launch(&programs.postgres(), arguments)?;
    wait_until_ready(&mut lifeline, &cluster, &endpoint, &log)?;
    tracing::debug!(major = programs.major, bin = %programs.bin.display(), "private PostgreSQL started");
    Ok(Running { endpoint, is_new, lifeline })
}

/// Returns the address of the private PostgreSQL of the server that owns `data_dir`, if there is such a server. Waits
/// for a server that is starting.
pub fn attach(data_dir: &Path) -> Result<Option<Endpoint>, Error> {
    let Ok(data_dir) = fs::canonicalize(data_dir) else { return Ok(None) };
    let cluster = cluster::path(&data_dir);
    let deadline = Instant::now() + ATTACH_TIMEOUT;
    while let Some(owner) = folders::owner::of(&data_dir)? {
        if let Some(endpoint) = postmaster::endpoint(&cluster)?
            && !matches!(postmaster::holder(&cluster)?, Holder::NoProcess | Holder::Impostor)
        {
            return Ok(Some(endpoint));
        }
        if Instant::now() > deadline {
            return Err(Error::OwnerNotReady { data_dir, owner });
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(None)
}

fn wait_until_ready(lifeline: &mut Lifeline, cluster: &Path, endpoint: &Endpoint, log: &Log) -> Result<(), Error> {
    let deadline = Instant::now() + START_TIMEOUT;
    // The run folder was created empty, so the socket and everything written before it are from this start.
    while !endpoint.socket().exists() || postmaster::endpoint(cluster)?.is_none() {
        if let Some(status) = lifeline.exit_status()? {
            return Err(Error::StartFailed { how: status.to_string(), log: log.path.clone(), log_tail: log.tail() });
        }
        if Instant::now() > deadline {
            let how = format!("not ready after {} s", START_TIMEOUT.as_secs());
            return Err(Error::StartFailed { how, log: log.path.clone(), log_tail: log.tail() });
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}
