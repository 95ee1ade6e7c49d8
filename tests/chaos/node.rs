//! A real server process, which can be killed, stopped and started again.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A command of the server's binary, with nothing of our environment, on the database at `database`.
pub fn command(folder: &Path, database: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloudapi"));
    command
        .env_clear()
        .env("DATABASE_URL", format!("postgres://cloudapi@{database}/postgres?sslmode=disable"))
        .env("CLOUDAPI_DATA_DIR", folder.join("data"))
        .env("CLOUDAPI_DRAIN_DELAY_SECONDS", "0")
        .current_dir(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A running server. Dropped, it is killed.
pub struct Node {
    child: Child,
    pub address: SocketAddr,
}

impl Node {
    /// Starts one, and returns when it listens; its database may come later. Blocks.
    pub fn start(folder: &Path, index: usize, database: SocketAddr) -> Self {
        let log = OpenOptions::new().create(true).append(true).open(log(folder, index)).unwrap();
        let mut command = command(folder, database, &["serve", "--listen", "127.0.0.1:0"]);
        let child = command.stderr(log).spawn().unwrap();
        // From here on it is killed if anything goes wrong.
        let mut node = Self { child, address: ([127, 0, 0, 1], 0).into() };
        let said = BufReader::new(node.child.stdout.take().unwrap());
        let address = said
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("cloudapi listens on http://")?.parse().ok());
        node.address =
            address.unwrap_or_else(|| panic!("node {index} did not start; see its log:\n{}", tail(folder, index)));
        node
    }

    pub fn signal(&self, signal: Signal) {
        // Nobody has waited for it yet, so the id is still its own.
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
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
