//! Shared parts of the benches: a PostgreSQL that listens on TCP, servers in separate processes, and load over
//! loopback. Comparisons are measured in alternating rounds, because the machine's speed drifts.

#![allow(dead_code, reason = "each bench uses a part of it")]

pub mod deployment;
pub mod keys;
pub mod load;
pub mod postgres;

use std::{
    env,
    error::Error,
    fmt,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;

/// Connections of each server to PostgreSQL.
pub const POOL: u32 = 16;

/// Owner of the project.
const OWNER: &str = "ada@example.com";

/// Any error.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// A server process. Dropping it kills it.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    /// Our server as in production: the release binary with default settings, its log in a file.
    pub fn cloudapi(folder: &Path, database: &str, settings: &[(&str, &str)]) -> Result<Self> {
        let mut command = cloudapi_command(folder, database);
        command.args(["serve", "--listen", "127.0.0.1:0"]).envs(settings.iter().copied());
        Self::start(command, "cloudapi listens on http://", &folder.join("server.log"))?.ready()
    }

    /// Waits until the server is ready and has its lease.
    pub fn ready(self) -> Result<Self> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.responds_with("/readyz", "\"lease\":\"ok\"")?
            && !self.responds_with("/readyz", "\"lease\":\"off")?
        {
            if Instant::now() > deadline {
                return Err("the server was not ready in time".into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(self)
    }

    fn responds_with(&self, path: &str, text: &str) -> Result<bool> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        Ok(response.starts_with("HTTP/1.1 200 ") && response.contains(text))
    }

    /// The baseline: this program with `--bare`.
    pub fn baseline(folder: &Path, database: &str) -> Result<Self> {
        Self::this_program(folder, &["--bare", database])
    }

    /// This program with these arguments. It must print where it listens.
    pub fn this_program(folder: &Path, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args(arguments);
        Self::start(command, "bare listens on ", &folder.join("bare.log"))
    }

    fn start(mut command: Command, prefix: &str, log: &Path) -> Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn()?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let mut server = Self { child, address: ([127, 0, 0, 1], 0).into() };
        let mut lines = BufReader::new(stdout).lines();
        let address = lines.find_map(|line| line.ok()?.strip_prefix(prefix)?.parse().ok());
        server.address = address.ok_or("the server did not start")?;
        Ok(server)
    }

    /// The server's resident memory in bytes.
    pub fn memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
        Ok(kib.map_or(0, |kib: u64| kib * 1024))
    }

    /// The CPU time of all threads, if the system reports it in nanoseconds.
    pub fn cpu_time(&self) -> Option<Duration> {
        cpu_time_of(self.child.id())
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The CPU time of all threads of a process, if the system reports it in nanoseconds.
pub fn cpu_time_of(process: u32) -> Option<Duration> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task")).ok()? {
        let times = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        nanoseconds += times.split(' ').next()?.parse::<u64>().ok()?;
    }
    Some(Duration::from_nanos(nanoseconds))
}

fn cloudapi_command(folder: &Path, database: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloudapi"));
    command.env_clear().current_dir(folder);
    command.env("DATABASE_URL", database).env("CLOUDAPI_DATA_DIR", folder.join("ours"));
    command
}

/// Raises the limit of open files, which servers inherit, as far as possible. Returns it.
pub fn raise_file_limit() -> Result<u64> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(most)
}

/// Creates the first owner and project. Returns the session and the project.
pub fn bootstrap(folder: &Path, database: &str) -> Result<(String, String)> {
    let made = admin(folder, database, &["bootstrap", "--email", OWNER, "--project", "Bench"])?;
    Ok((load::text(&made["session"], "token")?, load::text(&made["project"], "id")?))
}

/// Creates a link that signs the owner in to the console. Returns its secret.
pub fn console_link(folder: &Path, database: &str) -> Result<String> {
    let made = admin(folder, database, &["console-link", "--email", OWNER])?;
    let url = load::text(&made, "url")?;
    Ok(url.split_once("link=").ok_or("no secret in the link")?.1.to_owned())
}

/// Runs an operator's command, and returns what it prints.
fn admin(folder: &Path, database: &str, arguments: &[&str]) -> Result<Value> {
    let output = cloudapi_command(folder, database).arg("admin").args(arguments).arg("--json").output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The median.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The distribution of a value over many rounds.
pub struct Spread {
    pub median: f64,
    /// Half of the rounds are between these values.
    pub quartiles: [f64; 2],
    /// The 95 % confidence interval of the median.
    pub bounds: [f64; 2],
}

impl Spread {
    pub fn of(values: &mut [f64]) -> Self {
        let median = median(values);
        let count = values.len() as f64;
        let at = |place: f64| values[place.clamp(0.0, count - 1.0) as usize];
        // Normal approximation of the binomial distribution.
        let half_width = 0.98 * count.sqrt();
        Self {
            median,
            quartiles: [at(count / 4.0), at(count * 3.0 / 4.0)],
            bounds: [at(count / 2.0 - half_width), at(count / 2.0 + half_width)],
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, quartiles: [low, high], bounds: [least, most] } = self;
        write!(f, "{median:.3} (95 % interval {least:.3} to {most:.3}, quartiles {low:.3} to {high:.3})")
    }
}
