//! A private PostgreSQL, for when no `DATABASE_URL` is given.
//!
//! It lives in the data directory and listens on a Unix socket in a folder that only we may enter,
//! so there is no port to race for and no password. One server owns it at a time ([`owner`]). It
//! ends with that server, however that ends ([`lifeline`]); what outlives even so is stopped by the
//! next start, never adopted ([`postmaster`]).

mod account;
mod cluster;
mod error;
mod find;
mod folders;
mod hint;
mod lifeline;
mod log;
mod owner;
mod postmaster;

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

pub use self::error::Error;
use self::{account::Account, lifeline::Lifeline, log::Log, owner::Owner, postmaster::Holder};

/// The superuser that initdb makes.
const USER: &str = "cloudapi";
/// The database that initdb makes. The cluster is ours alone, so another one would say nothing more.
const DATABASE: &str = "postgres";
/// Only the socket's name has it.
const PORT: u16 = 5432;
/// How long PostgreSQL may take until it answers; after a crash it first replays its log.
const START_TIME: Duration = Duration::from_secs(60);
/// How long a command beside a server waits until that server's PostgreSQL answers.
const ATTACH_TIME: Duration = Duration::from_secs(10);
/// How long to wait before looking again for something that takes milliseconds.
const PAUSE: Duration = Duration::from_millis(3);

/// What to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything is kept. It is made if it is missing.
    pub data_dir: PathBuf,
    /// The folder of PostgreSQL's server programs; when unset, the fitting one of those installed.
    pub pg_bin: Option<PathBuf>,
    /// Whether what is committed must survive a crash of the machine.
    pub durability: Durability,
    /// How many connections PostgreSQL takes.
    pub max_connections: u32,
}

/// Whether what is committed must survive a crash of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It must.
    Durable,
    /// It need not: for tests, whose data nobody wants back.
    Volatile,
}

/// Where a private PostgreSQL is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The folder of its Unix socket.
    pub socket_dir: PathBuf,
    /// The port that is part of the socket's name.
    pub port: u16,
    /// The user to connect as, without a password.
    pub user: String,
    /// The database to use.
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

/// A PostgreSQL of our own, running. Dropping it stops it too, without waiting.
#[derive(Debug)]
pub struct PrivatePostgres {
    options: Options,
    running: Running,
    // The last field, so that the data directory is given up last.
    _owner: Owner,
}

#[derive(Debug)]
struct Running {
    endpoint: Endpoint,
    is_new: bool,
    lifeline: Lifeline,
}

impl PrivatePostgres {
    /// Starts it, and returns when it takes connections. Blocks: a tenth of a second, a second the
    /// first time, and more only after a crash.
    pub fn start(options: Options) -> Result<Self, Error> {
        let data_dir = folders::make_data_dir(&options.data_dir)?;
        let options = Options { data_dir, ..options };
        let owner = Owner::lock(&options.data_dir)?;
        Ok(Self { running: launch(&options)?, options, _owner: owner })
    }

    /// Starts it again if it has ended by itself, as when the system ran out of memory; gives whether it
    /// had. Blocks as [`PrivatePostgres::start`] does.
    pub fn revive(&mut self) -> Result<bool, Error> {
        if self.running.lifeline.ended()?.is_none() {
            return Ok(false);
        }
        self.running = launch(&self.options)?;
        Ok(true)
    }

    /// Where it is reached.
    pub fn endpoint(&self) -> &Endpoint {
        &self.running.endpoint
    }

    /// Whether this start made the cluster, so that there is nothing in it yet.
    pub fn is_new(&self) -> bool {
        self.running.is_new
    }

    /// Stops it cleanly, cutting off clients that are still connected, and gives up the data directory.
    pub fn stop(mut self) -> Result<(), Error> {
        let data_dir = &self.options.data_dir;
        self.running.lifeline.let_go();
        // Not only waiting for our child: whoever killed the lifeline's shell has left that to us.
        let lock = folders::open(&data_dir.join(postmaster::LOCK), 0o600)?;
        postmaster::take_over(&cluster::path(data_dir), &lock)?;
        self.running.lifeline.reap()?;
        // Nothing depends on it: the next start makes the folder anew.
        let _ = fs::remove_dir(&self.running.endpoint.socket_dir);
        Ok(())
    }
}

/// Starts PostgreSQL in a data directory that is ours, and waits until it takes connections.
fn launch(options: &Options) -> Result<Running, Error> {
    let data_dir = &options.data_dir;
    let cluster = cluster::path(data_dir);
    let account = Account::choose(&cluster)?;
    account.check_may_enter(data_dir)?;
    let programs = find::find(&account, options.pg_bin.as_deref(), cluster::major(&cluster)?)?;

    // Whatever of PostgreSQL runs here holds this lock, so from now on nothing else does.
    let lock = folders::open(&data_dir.join(postmaster::LOCK), 0o600)?;
    postmaster::take_over(&cluster, &lock)?;
    let log = Log::start(data_dir)?;
    let launcher = lifeline::Launcher { account: &account, lock: &lock, log: &log };

    let is_new = cluster::make_if_missing(data_dir, &launcher, &programs, options.durability)?;
    postmaster::remove_stale(&cluster)?;
    cluster::restore_version_file(&cluster, &account)?;
    let endpoint = Endpoint::at(folders::make_run_dir(data_dir, &account)?, PORT);
    let arguments = cluster::arguments(&cluster, &endpoint, options.durability, options.max_connections);
    let mut lifeline = launcher.launch(&programs.postgres(), arguments)?;
    wait_until_ready(&mut lifeline, &cluster, &endpoint, &log)?;
    tracing::debug!(major = programs.major, bin = %programs.bin.display(), "the private PostgreSQL runs");
    Ok(Running { endpoint, is_new, lifeline })
}

/// Where the private PostgreSQL of the server that owns `data_dir` is reached, if a server does.
/// Waits for one that is just starting.
pub fn attach(data_dir: &Path) -> Result<Option<Endpoint>, Error> {
    let Ok(data_dir) = fs::canonicalize(data_dir) else { return Ok(None) };
    let cluster = cluster::path(&data_dir);
    let deadline = Instant::now() + ATTACH_TIME;
    while let Some(owner) = owner::of(&data_dir)? {
        if let Some(endpoint) = postmaster::endpoint(&cluster)?
            && !matches!(postmaster::holder(&cluster)?, Holder::Nobody | Holder::Impostor)
        {
            return Ok(Some(endpoint));
        }
        if Instant::now() > deadline {
            return Err(Error::OwnerNotReady { data_dir, owner });
        }
        thread::sleep(PAUSE);
    }
    Ok(None)
}

fn wait_until_ready(lifeline: &mut Lifeline, cluster: &Path, endpoint: &Endpoint, log: &Log) -> Result<(), Error> {
    let deadline = Instant::now() + START_TIME;
    // The run folder was made empty, so a socket is this start's, and so is what was written before it.
    while !endpoint.socket().exists() || postmaster::endpoint(cluster)?.is_none() {
        if let Some(status) = lifeline.ended()? {
            return Err(Error::DidNotStart { how: status.to_string(), log: log.path.clone(), said: log.tail() });
        }
        if Instant::now() > deadline {
            let how = format!("it was not ready after {} s", START_TIME.as_secs());
            return Err(Error::DidNotStart { how, log: log.path.clone(), said: log.tail() });
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}
