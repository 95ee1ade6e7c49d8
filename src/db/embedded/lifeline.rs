//! The lifeline: stops PostgreSQL when this process ends, however it ends.
//!
//! A shell waits on a pipe whose other end only this process holds. The kernel closes that end when the process is
//! gone, even after `kill -9`, and the shell then stops PostgreSQL cleanly. (PR_SET_PDEATHSIG would fire when the
//! *thread* that started PostgreSQL ends.)

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ExitStatus, Stdio},
};

use super::{Error, folders::account::Account, log::Log};

/// Shell that exists on every Unix.
pub(super) const SHELL: &str = "/bin/sh";

/// Starts the waiting shell and PostgreSQL. Standard input is the pipe, standard output is the lock that all PostgreSQL
/// processes hold (as descriptor 3), and standard error is the log.
///
/// - The waiting shell is a grandchild, because the first shell becomes PostgreSQL, which must not have an unknown
///   child. It does not hold the lock, as it may outlive PostgreSQL.
/// - It ignores signals that a service manager sends to all of our processes.
/// - The pipe is duplicated to descriptor 4, because the standard input of a background command is replaced first.
const SCRIPT: &str = r#"
exec 4<&0
( { trap '' HUP INT TERM; read -r line; kill -INT $$; } <&4 >/dev/null 2>&1 & )
exec "$@" 3>&1 1>&2 </dev/null 4<&-
"#;

/// Starts PostgreSQL programs that end with this process.
#[derive(Debug)]
pub(super) struct Launcher<'a> {
    /// User that they run as.
    pub(super) account: &'a Account,
    /// Lock that they and their children hold while they run.
    pub(super) lock: &'a File,
    /// Log that they write to.
    pub(super) log: &'a Log,
}

impl Launcher<'_> {
    /// Starts a program.
    pub(super) fn launch(&self, program: &Path, arguments: Vec<OsString>) -> Result<Lifeline, Error> {
        let launch = || -> io::Result<Child> {
            self.account
                .command(Path::new(SHELL))
                .args(["-c", SCRIPT, "cloudapi-lifeline"])
                .arg(program)
                .args(arguments)
                // Ctrl-C is for this process only. PostgreSQL must run until the last request is done.
                .process_group(0)
                .stdin(Stdio::piped())
                .stdout(self.lock.try_clone()?)
                .stderr(self.log.file.try_clone()?)
                .spawn()
        };
        launch().map(|child| Lifeline { child }).map_err(|source| self.account.run_error(Path::new(SHELL), source))
    }
}

/// A program that is stopped when this is dropped.
#[derive(Debug)]
pub(super) struct Lifeline {
    // The child's standard input is our end of the pipe.
    child: Child,
}

impl Lifeline {
    /// Returns the exit status, if the program has ended.
    pub(super) fn exit_status(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.child.try_wait().map_err(Error::files("waiting for", SHELL))
    }

    /// Stops the program.
    pub(super) fn signal_stop(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits until the program has ended, so that no zombie remains.
    pub(super) fn reap(&mut self) -> Result<ExitStatus, Error> {
        self.child.wait().map_err(Error::files("waiting for", SHELL))
    }
}
