//! The real binary as a process of its own, in a data directory of its own.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;

use super::{PATIENCE, cluster, not_at_midnight, witness};

/// A folder for one deployment's files, and an environment without anything of ours in it.
pub struct Deployment {
    folder: TempDir,
}

impl Deployment {
    pub fn new() -> Self {
        not_at_midnight();
        let folder = tempfile::Builder::new().prefix("cloudapi-deployment-").tempdir().unwrap();
        // The user that PostgreSQL runs as has to get in.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The command, in this deployment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cloudapi"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("CLOUDAPI_DATA_DIR", self.folder().join("data"))
            .env("CLOUDAPI_LISTEN", "127.0.0.1:0")
            .env("CLOUDAPI_METRICS_LISTEN", "127.0.0.1:0")
            // No load balancer waits to see it.
            .env("CLOUDAPI_DRAIN_DELAY_SECONDS", "0")
            .current_dir(self.folder())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(folder) = std::env::var_os("CLOUDAPI_PG_BIN") {
            command.env("CLOUDAPI_PG_BIN", folder);
        }
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed, for what it prints.
    #[track_caller]
    pub fn printed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command on `database` to its end: whether it succeeded, what it printed, and what it said of errors.
    pub fn run_on(&self, database: &PgConnectOptions, arguments: &[&str]) -> (bool, String, String) {
        let output = self.command(arguments).env("DATABASE_URL", cluster::url(database)).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    }

    /// Starts a server and waits until it is ready.
    pub fn serve(&self) -> Server {
        Server::start(self.command(&["serve"]))
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        // A killed server's PostgreSQL takes a moment to stop, and writes until then.
        let deadline = Instant::now() + PATIENCE;
        while fs::remove_dir_all(self.folder()).is_err() && self.folder().exists() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A running server. Dropped, it is killed.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub url: String,
    /// Standard output, to its end.
    output: mpsc::Receiver<String>,
    errors: mpsc::Receiver<String>,
}

impl Server {
    /// Starts `command` and waits until it says that it is ready.
    #[track_caller]
    pub fn start(command: Command) -> Self {
        Self::try_start(command).unwrap_or_else(|error| panic!("the server did not become ready: {error}"))
    }

    /// As [`Server::start`]; gives what it said if it ended instead.
    pub fn try_start(command: Command) -> Result<Self, String> {
        Self::start_until(command, |line| line.strip_prefix("cloudapi listens on ").map(str::to_owned))
    }

    /// Starts `command` and waits until it says that it waits for its database. Gives what it waits for, too.
    #[track_caller]
    pub fn start_waiting(command: Command) -> (Self, String) {
        let mut reason = String::new();
        let waits = |line: &str| {
            let (url, why) = line.strip_prefix("cloudapi waits before it serves ")?.split_once(": ")?;
            reason = why.to_owned();
            Some(url.to_owned())
        };
        let server =
            Self::start_until(command, waits).unwrap_or_else(|error| panic!("the server does not wait: {error}"));
        (server, reason)
    }

    fn start_until(mut command: Command, mut says: impl FnMut(&str) -> Option<String>) -> Result<Self, String> {
        let mut child = command.spawn().unwrap();
        let output = lines(child.stdout.take().unwrap());
        let errors = lines(child.stderr.take().unwrap());
        let mut said = String::new();
        let url = loop {
            let Ok(line) = output.recv_timeout(PATIENCE) else {
                let _ = child.kill();
                said.extend(errors.iter().map(|line| line + "\n"));
                let _ = child.wait();
                return Err(said);
            };
            if let Some(url) = says(&line) {
                break url;
            }
        };
        Ok(Self { child, url, output, errors })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Sends a signal and waits for the end, for how the server ended and all it said.
    pub fn end(self, signal: Signal) -> Ended {
        self.signal(signal);
        self.wait_for_end()
    }

    /// Waits for the end of a server that was told to stop.
    pub fn wait_for_end(mut self) -> Ended {
        let status = self.wait();
        let errors: Vec<String> = self.errors.iter().collect();
        errors.iter().for_each(|line| witness::inspect(line));
        Ended { status, output: self.output.iter().collect(), errors }
    }

    /// Waits for a line on standard error that holds `text`.
    #[track_caller]
    pub fn wait_for_error(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        while let Ok(line) = self.errors.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if line.contains(text) {
                return line;
            }
        }
        panic!("the server did not say: {text}");
    }

    /// Waits for a line on standard output that begins with `text`.
    #[track_caller]
    pub fn wait_for_output(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        while let Ok(line) = self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if line.starts_with(text) {
                return line;
            }
        }
        panic!("the server did not say: {text}");
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !thread::panicking() {
            self.errors.iter().for_each(|line| witness::inspect(&line));
        }
    }
}

/// How a server ended.
pub struct Ended {
    pub status: ExitStatus,
    pub output: Vec<String>,
    pub errors: Vec<String>,
}

impl Ended {
    #[track_caller]
    pub fn expect_success(&self) {
        assert!(self.status.success(), "{}: {}", self.status, self.errors.join("\n"));
    }

    pub fn was_killed(&self) -> bool {
        self.status.signal() == Some(Signal::SIGKILL as i32)
    }
}

fn lines(stream: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    receiver
}
