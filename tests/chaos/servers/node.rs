//! A real server process that can be killed, stopped and restarted.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Mutex,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::servers::clocks;

/// The file with the server key, which all servers of a deployment read.
pub const KEY_FILE: &str = "secret.key";

/// The file with the providers of all servers of a deployment, if it exists.
pub const PROVIDERS_FILE: &str = "providers.toml";

/// The environment variables with the credentials of a provider, which servers inherit.
const PROVIDERS_CREDENTIALS: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];

/// A command that runs the server binary.
pub fn command(folder: &Path, index: usize, database: SocketAddr, arguments: &[&str]) -> Command {
    program(env!("CARGO_BIN_EXE_cloudapi").as_ref(), folder, index, database, arguments)
}

/// A program with the environment variables of this node, and none of the harness's.
fn program(program: &Path, folder: &Path, index: usize, database: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("DATABASE_URL", format!("postgres://cloudapi@{database}/postgres?sslmode=disable"))
        .env("CLOUDAPI_DATA_DIR", folder.join(format!("data-{index}")))
        .env("CLOUDAPI_SECRET_KEY_FILE", folder.join(KEY_FILE))
        .env("CLOUDAPI_DRAIN_DELAY_SECONDS", "0")
        .env("CLOUDAPI_METRICS_LISTEN", "off")
        .env("CLOUDAPI_WEBHOOK_ALLOW", "127.0.0.0/8")
        .current_dir(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let providers = folder.join(PROVIDERS_FILE);
    if providers.exists() {
        command.env("CLOUDAPI_PROVIDERS", providers);
        command.envs(PROVIDERS_CREDENTIALS.iter().filter_map(|name| Some((name, env::var_os(name)?))));
    }
    command
}

/// A running server. Dropping it kills it.
pub struct Node {
    child: Child,
    /// Takes changes of the server's clock, if the clock can be set.
    stdin: Mutex<Option<ChildStdin>>,
    /// Kept open: a server that runs inside a test binary is subject to the test runner, which prints a warning after a
    /// minute and exits if its stdout is closed.
    stdout: Option<BufReader<ChildStdout>>,
    pub address: SocketAddr,
}

impl Node {
    /// Starts a server and returns when it listens; its database may start later. With `ahead`, its clock can be set
    /// and starts this many milliseconds ahead. Blocks.
    pub fn start(folder: &Path, index: usize, database: SocketAddr, ahead: Option<i64>) -> Self {
        let log = OpenOptions::new().create(true).append(true).open(log(folder, index)).unwrap();
        let mut command = match ahead {
            None => command(folder, index, database, &["serve", "--listen", "127.0.0.1:0"]),
            Some(ahead) => {
                let mut command = program(&env::current_exe().unwrap(), folder, index, database, &clocks::SERVE);
                command.env(clocks::AHEAD, ahead.to_string()).stdin(Stdio::piped());
                command
            }
        };
        let mut child = command.stderr(log).spawn().unwrap();
        let stdin = Mutex::new(child.stdin.take());
        // From here on, dropping `node` kills it.
        let mut node = Self { child, stdin, stdout: None, address: ([127, 0, 0, 1], 0).into() };
        let stdout = node.stdout.insert(BufReader::new(node.child.stdout.take().unwrap()));
        let address = stdout.lines().map_while(Result::ok).find_map(|line| address_in(&line));
        node.address =
            address.unwrap_or_else(|| panic!("node {index} did not start; see its log:\n{}", tail(folder, index)));
        node
    }

    pub fn signal(&self, signal: Signal) {
        // The process is not reaped yet, so its process ID is not reused.
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Moves the server's clock forward or back by this many milliseconds, effective within a moment.
    pub fn step_clock(&self, millis: i64) {
        let mut stdin = self.stdin.lock().unwrap();
        writeln!(stdin.as_mut().expect("a node with an adjustable clock"), "{millis}").unwrap();
    }

    /// Sends `kill -9` and waits until the process has exited.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // SIGKILL also ends a stopped process.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in the line that a server prints when it serves, or when it waits for its database.
fn address_in(line: &str) -> Option<SocketAddr> {
    let serves = line.strip_prefix("cloudapi listens on http://");
    let waits = || line.strip_prefix("cloudapi waits before it serves http://")?.split(": ").next();
    serves.or_else(waits)?.parse().ok()
}

fn log(folder: &Path, index: usize) -> PathBuf {
    folder.join(format!("node-{index}.log"))
}

fn tail(folder: &Path, index: usize) -> String {
    let text = fs::read_to_string(log(folder, index)).unwrap_or_default();
    text.lines().rev().take(20).collect::<Vec<_>>().join("\n")
}

/// The lines of the nodes' logs that contain `text`, which explain a response.
pub fn log_lines(folder: &Path, nodes: usize, text: &str) -> Vec<String> {
    let logs = (0..nodes).filter_map(|index| File::open(log(folder, index)).ok());
    logs.flat_map(|log| BufReader::new(log).lines().map_while(Result::ok)).filter(|line| line.contains(text)).collect()
}
