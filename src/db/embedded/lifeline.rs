//! The lifeline: PostgreSQL ends when we do, however we end.
//!
//! Beside it waits a shell on a pipe whose other end only we hold. The kernel closes that end when we
//! are gone, even by `kill -9`, and the shell then stops PostgreSQL cleanly. (PR_SET_PDEATHSIG would
//! fire when the *thread* ends that started it.)

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ExitStatus, Stdio},
};

use super::{Error, account::Account, log::Log};

/// The shell that every Unix has.
pub(super) const SHELL: &str = "/bin/sh";

/// Standard input is the pipe, standard output the lock that all of PostgreSQL shall hold (it gets it
/// as descriptor 3), standard error the log.
///
/// - The shell that waits is a grandchild, so that PostgreSQL, which the first shell turns into, has no
///   child that it does not know. It has no lock, as it may outlive PostgreSQL.
/// - It ignores what a service manager sends to all of our processes at once.
/// - The pipe has to go by way of 4: a background command's standard input is replaced first.
const SCRIPT: &str = r#"
exec 4<&0
( { trap '' HUP INT TERM; read -r line; kill -INT $$; } <&4 >/dev/null 2>&1 & )
exec "$@" 3>&1 1>&2 </dev/null 4<&-
"#;

/// Starts programs of PostgreSQL that end with us.
#[derive(Debug)]
pub(super) struct Launcher<'a> {
    /// Whom they run as.
    pub(super) account: &'a Account,
    /// What they hold as long as one of them, or of their children, runs.
    pub(super) lock: &'a File,
    /// What they write to.
    pub(super) log: &'a Log,
}

impl Launcher<'_> {
    /// Starts one.
    pub(super) fn launch(&self, program: &Path, arguments: Vec<OsString>) -> Result<Lifeline, Error> {
        let launch = || -> io::Result<Child> {
            self.account
                .command(Path::new(SHELL))
                .args(["-c", SCRIPT, "cloudapi-lifeline"])
                .arg(program)
                .args(arguments)
                // Ctrl-C is for us, and PostgreSQL must run until the last request is done.
                .process_group(0)
                .stdin(Stdio::piped())
                .stdout(self.lock.try_clone()?)
                .stderr(self.log.file.try_clone()?)
                .spawn()
        };
        launch().map(|child| Lifeline { child }).map_err(|source| self.account.not_run(Path::new(SHELL), source))
    }
}

/// A program that ends when this is dropped.
#[derive(Debug)]
pub(super) struct Lifeline {
    // Our end of the pipe is its standard input.
    child: Child,
}

impl Lifeline {
    /// How it ended, if it did.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.child.try_wait().map_err(Error::files("waiting for", SHELL))
    }

    /// Has it stopped.
    pub(super) fn let_go(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits until it has ended, so that no zombie is left.
    pub(super) fn reap(&mut self) -> Result<ExitStatus, Error> {
        self.child.wait().map_err(Error::files("waiting for", SHELL))
    }
}
