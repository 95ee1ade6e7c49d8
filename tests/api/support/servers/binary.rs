//! The real binary as a separate process with its own data directory.

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

use crate::support::{WAIT_LIMIT, cluster, leak_detector, not_at_midnight, prepared, slot::fast_folder};

/// A folder for one deployment's files, and an environment without the variables of the test process.
pub struct Deployment {
    folder: TempDir,
}

impl Deployment {
    pub fn new() -> Self {
        not_at_midnight();
        let folder = tempfile::Builder::new().prefix("cloudapi-deployment-").tempdir_in(fast_folder()).unwrap();
        // The user that runs PostgreSQL needs access.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    /// A deployment that has been started before: its private PostgreSQL has the schema.
    pub fn prepared() -> Self {
        let deployment = Self::new();
        prepared::install(&deployment.folder().join("data"));
        deployment
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A command in this deployment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cloudapi"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("CLOUDAPI_DATA_DIR", self.folder().join("data"))
            .env("CLOUDAPI_LISTEN", "127.0.0.1:0")
            .env("CLOUDAPI_METRICS_LISTEN", "127.0.0.1:0")
            // There is no load balancer to wait for.
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

    /// Runs a command until it exits.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed, and returns what it prints.
    #[track_caller]
    pub fn printed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command on `database` until it exits. Returns whether it succeeded, its stdout and its stderr.
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
        // After a server was killed, its PostgreSQL takes a moment to stop, and writes files until then.
        let deadline = Instant::now() + WAIT_LIMIT;
        while fs::remove_dir_all(self.folder()).is_err() && self.folder().exists() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A running server. Dropping it kills it.
pub struct Server {
    child: Child,
    /// The URL that it listens on.
    pub url: String,
    /// Lines of standard output.
    output: mpsc::Receiver<String>,
    errors: mpsc::Receiver<String>,
}

impl Server {
    /// Starts `command` and waits until it prints that it is ready.
    #[track_caller]
    pub fn start(command: Command) -> Self {
        Self::try_start(command).unwrap_or_else(|error| panic!("the server did not become ready: {error}"))
    }

    /// As [`Server::start`]. If the server exits instead, returns its stderr.
    pub fn try_start(command: Command) -> Result<Self, String> {
        Self::start_until(command, |line| line.strip_prefix("cloudapi listens on ").map(str::to_owned))
    }

    /// Starts `command` and waits until it prints that it waits for its database. Also returns the reason.
    #[track_caller]
    pub fn start_waiting(command: Command) -> (Self, String) {
        let mut reason = String::new();
        let waits = |line: &str| {
            let (url, why) = line.strip_prefix("cloudapi waits before it serves ")?.split_once(": ")?;
            reason = why.to_owned();
            Some(url.to_owned())
        };
        let server =
            Self::start_until(command, waits).unwrap_or_else(|error| panic!("the server did not wait: {error}"));
        (server, reason)
    }

    fn start_until(mut command: Command, mut matches: impl FnMut(&str) -> Option<String>) -> Result<Self, String> {
        let mut child = command.spawn().unwrap();
        let output = lines(child.stdout.take().unwrap());
        let errors = lines(child.stderr.take().unwrap());
        let mut said = String::new();
        let url = loop {
            let Ok(line) = output.recv_timeout(WAIT_LIMIT) else {
                let _ = child.kill();
                said.extend(errors.iter().map(|line| line + "\n"));
                let _ = child.wait();
                return Err(said);
            };
            if let Some(url) = matches(&line) {
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

    /// Sends a signal and waits for the exit. Returns the exit status and the remaining output.
    pub fn end(self, signal: Signal) -> ServerExit {
        self.signal(signal);
        self.wait_for_end()
    }

    /// Waits for the exit of a server that is stopping.
    pub fn wait_for_end(mut self) -> ServerExit {
        let status = self.wait();
        let errors: Vec<String> = self.errors.iter().collect();
        errors.iter().for_each(|line| leak_detector::assert_no_secrets(line));
        ServerExit { status, output: self.output.iter().collect(), errors }
    }

    /// Waits for a line on standard error that contains `text`.
    #[track_caller]
    pub fn wait_for_error(&self, text: &str) -> String {
        let deadline = Instant::now() + WAIT_LIMIT;
        while let Ok(line) = self.errors.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if line.contains(text) {
                return line;
            }
        }
        panic!("the server did not print: {text}");
    }

    /// Waits for a line on standard output that starts with `text`.
    #[track_caller]
    pub fn wait_for_output(&self, text: &str) -> String {
        let deadline = Instant::now() + WAIT_LIMIT;
        while let Ok(line) = self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if line.starts_with(text) {
                return line;
            }
        }
        panic!("the server did not print: {text}");
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + WAIT_LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server did not exit");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !thread::panicking() {
            self.errors.iter().for_each(|line| leak_detector::assert_no_secrets(&line));
        }
    }
}

/// The exit status and the remaining output of a server.
pub struct ServerExit {
    pub status: ExitStatus,
    pub output: Vec<String>,
    pub errors: Vec<String>,
}

impl ServerExit {
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
