//! A real server process, which can be killed, stopped and started again.

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

use crate::clocks;

/// The key that all servers of a deployment have, in a file that each of them reads.
pub const KEY_FILE: &str = "secret.key";

/// The providers that all servers of a deployment have, if there is such a file.
pub const PROVIDERS_FILE: &str = "providers.toml";

/// What a provider's credentials are in the environment of, which servers find them in.
const PROVIDERS_CREDENTIALS: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];

/// A command of the server's binary.
pub fn command(folder: &Path, index: usize, database: SocketAddr, arguments: &[&str]) -> Command {
    program(env!("CARGO_BIN_EXE_cloudapi").as_ref(), folder, index, database, arguments)
}

/// A program that is told where the node's own data and its database are, and nothing of our environment.
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

/// A running server. Dropped, it is killed.
pub struct Node {
    child: Child,
    /// Where its clock's steps are written, if it is one whose clock can be set.
    steering: Mutex<Option<ChildStdin>>,
    /// Held open: the runner of tests that a server of the harness's own is one of says something after a minute, and
    /// ends if nobody is there to hear it.
    said: Option<BufReader<ChildStdout>>,
    pub address: SocketAddr,
}

impl Node {
    /// Starts one, and returns when it listens; its database may come later. Its clock can be set if it is said how
    /// many milliseconds that is ahead. Blocks.
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
        let steering = Mutex::new(child.stdin.take());
        // From here on it is killed if anything goes wrong.
        let mut node = Self { child, steering, said: None, address: ([127, 0, 0, 1], 0).into() };
        let said = node.said.insert(BufReader::new(node.child.stdout.take().unwrap()));
        let address = said.lines().map_while(Result::ok).find_map(|line| address_in(&line));
        node.address =
            address.unwrap_or_else(|| panic!("node {index} did not start; see its log:\n{}", tail(folder, index)));
        node
    }

    pub fn signal(&self, signal: Signal) {
        // Nobody has waited for it yet, so the id is still its own.
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Sets its clock forward or back by so many milliseconds. It stands so in a moment.
    pub fn step_clock(&self, millis: i64) {
        let mut steering = self.steering.lock().unwrap();
        writeln!(steering.as_mut().expect("a node whose clock can be set"), "{millis}").unwrap();
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // SIGKILL ends a stopped process too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in what a server says when it serves, and when it waits for its database.
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

/// The lines of the nodes' logs that hold `text`, to say what was behind an answer.
pub fn log_lines(folder: &Path, nodes: usize, text: &str) -> Vec<String> {
    let logs = (0..nodes).filter_map(|index| File::open(log(folder, index)).ok());
    logs.flat_map(|log| BufReader::new(log).lines().map_while(Result::ok)).filter(|line| line.contains(text)).collect()
}
