//! Processes that run on the cluster. They are found by the lock that all PostgreSQL processes hold, and by
//! PostgreSQL's `postmaster.pid`.

use std::{
    ffi::OsStr,
    fs::{self, File, TryLockError},
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Endpoint, Error, POLL_INTERVAL};

/// File whose lock all PostgreSQL processes hold. It is released when the last process is gone, including initdb and
/// children that outlive a killed parent.
pub(super) const LOCK: &str = "postgres.lock";
/// Time limit for an earlier PostgreSQL to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Process that has the PID in `postmaster.pid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// No process.
    NoProcess,
    /// The cluster's PostgreSQL.
    Ours(Pid),
    /// Another process that reused the PID, or a zombie that nobody has reaped. Both respond to signal 0, so PostgreSQL
    /// would take them for a running PostgreSQL.
    Impostor,
    /// A PostgreSQL whose working directory may not be read.
    Unknown,
}

/// Stops an earlier PostgreSQL, and waits until no process of it remains. Afterwards this process holds `lock`.
pub(super) fn stop_previous(cluster: &Path, lock: &File) -> Result<(), Error> {
    let deadline = Instant::now() + STOP_TIMEOUT;
    let mut locked = false;
    let mut signaled = None;
    loop {
        if !locked {
            locked = match lock.try_lock() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => false,
                Err(TryLockError::Error(error)) => {
                    return Err(Error::files("locking", cluster.with_file_name(LOCK))(error));
                }
            };
        }
        // Check the PID even if the lock is free, because the lock file may have been removed.
        let holder = holder(cluster)?;
        match holder {
            // The lifeline has usually sent the signal already. A second one has no effect.
            Holder::Ours(pid) if signaled != Some(pid) => {
                tracing::debug!(%pid, "stopping PostgreSQL");
                // An error means that the process has just ended.
                let _ = kill(pid, Signal::SIGINT);
                signaled = Some(pid);
            }
            Holder::Ours(_) => {}
            Holder::NoProcess | Holder::Impostor | Holder::Unknown if locked => return Ok(()),
            Holder::NoProcess | Holder::Impostor | Holder::Unknown => {}
        }
        if Instant::now() > deadline {
            let who = match holder {
                Holder::Ours(pid) => format!("process {pid}"),
                _ => format!("processes that hold {}", cluster.with_file_name(LOCK).display()),
            };
            return Err(Error::StillRunning { cluster: cluster.into(), who, seconds: STOP_TIMEOUT.as_secs() });
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Removes a `postmaster.pid` that would keep PostgreSQL from starting without need: one with the PID of another
/// process, or one without a PID, as after a power failure. One that is only stale stays, because PostgreSQL finds its
/// shared memory by it, a last guard against two instances.
pub(super) fn remove_stale(cluster: &Path) -> Result<(), Error> {
    let is_garbled = read(cluster)?.is_some_and(|text| process_id(&text).is_none());
    if !is_garbled && holder(cluster)? != Holder::Impostor {
        return Ok(());
    }
    let path = pid_file(cluster);
    if is_garbled {
        tracing::warn!(
            "{} had no process ID, as after a power failure; removed, because PostgreSQL is not running",
            path.display()
        );
    }
    fs::remove_file(&path).map_err(Error::files("removing", path))
}

/// Returns the address of the cluster's PostgreSQL, if its `postmaster.pid` says that it accepts connections.
pub(super) fn endpoint(cluster: &Path) -> Result<Option<Endpoint>, Error> {
    Ok(read(cluster)?.and_then(|text| ready_endpoint(&text)))
}

/// Returns the process that has the PID in the cluster's `postmaster.pid`.
pub(super) fn holder(cluster: &Path) -> Result<Holder, Error> {
    let Some(text) = read(cluster)? else { return Ok(Holder::NoProcess) };
    // Without a PID, an orphan is still found by its working directory.
    let Some(pid) = process_id(&text) else { return Ok(running(cluster).map_or(Holder::NoProcess, Holder::Ours)) };
    if kill(pid, None) == Err(Errno::ESRCH) {
        return Ok(Holder::NoProcess);
    }
    let command = command_line(pid);
    let program = command.split(|byte| matches!(byte, 0 | b' ')).next().unwrap_or_default();
    let program = Path::new(OsStr::from_bytes(program)).file_name().unwrap_or_default();
    // Children are named "postgres: …"; a zombie has no command line.
    if program != "postgres" && program != "postgres:" && program != "postmaster" {
        return Ok(Holder::Impostor);
    }
    // PostgreSQL's working directory is its data directory. Root without all capabilities, as in a container, may not
    // read it.
    Ok(match fs::read_link(format!("/proc/{pid}/cwd")) {
        Ok(folder) if folder == cluster => Holder::Ours(pid),
        Ok(_) => Holder::Impostor,
        Err(_) if contains(&command, cluster.as_os_str().as_bytes()) => Holder::Ours(pid),
        Err(_) => Holder::Unknown,
    })
}

/// Parses the PID in `postmaster.pid`. It is negative for a process that accepts no connections (`postgres --single`).
fn process_id(text: &str) -> Option<Pid> {
    let id: i32 = first_line(text)?.parse().ok()?;
    id.checked_abs().filter(|id| *id != 0).map(Pid::from_raw)
}

/// Finds the PostgreSQL that runs on the cluster, if the system allows it.
fn running(cluster: &Path) -> Option<Pid> {
    let processes = fs::read_dir("/proc").ok()?;
    let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Pid::from_raw));
    let works_here = |pid: &Pid| {
        let command = command_line(*pid);
        let program = command.split(|byte| *byte == 0).next().unwrap_or_default();
        // Children are named "postgres: …".
        Path::new(OsStr::from_bytes(program)).file_name().is_some_and(|name| name == "postgres")
            && fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|folder| folder == cluster)
    };
    ids.into_iter().find(works_here)
}

fn command_line(pid: Pid) -> Vec<u8> {
    if Path::new("/proc/self/cmdline").exists() {
        return fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    }
    let output = Command::new("/bin/ps").args(["-o", "args=", "-p", &pid.to_string()]).output();
    // ps shows a zombie as "<defunct>" or "(postgres)".
    output.map(|output| output.stdout).unwrap_or_default()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn pid_file(cluster: &Path) -> PathBuf {
    cluster.join("postmaster.pid")
}

fn read(cluster: &Path) -> Result<Option<String>, Error> {
    let path = pid_file(cluster);
    match fs::read(&path) {
        Ok(text) => Ok(Some(String::from_utf8_lossy(&text).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::files("reading", path)(error)),
    }
}

fn first_line(text: &str) -> Option<&str> {
    text.lines().next().map(str::trim)
}

/// The lines are: PID, data directory, start time, port, socket folder, address, shared memory, status.
fn ready_endpoint(text: &str) -> Option<Endpoint> {
    let mut lines = text.lines().skip(3);
    let port = lines.next()?.trim().parse().ok()?;
    let socket_dir = lines.next()?;
    (lines.nth(2)?.trim() == "ready").then(|| Endpoint::at(socket_dir.into(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID_FILE_TEXT: &str = "17\n/d/postgres\n1700000000\n5432\n/d/run\n\n  1234  5\nready   \n";

    #[test]
    fn pid_is_parsed_or_reported_missing() {
        for (text, id) in [("17\n/d", Some(17)), (" 17", Some(17)), ("-17\n", Some(17))] {
            assert_eq!(process_id(text), id.map(Pid::from_raw), "{text:?}");
        }
        for text in ["", "\n", "\0\0\0\0", "0\n", "abc\n", "17x\n", "\n17\n", "99999999999\n", "\u{fffd}17"] {
            assert_eq!(process_id(text), None, "{text:?}");
        }
    }

    #[test]
    fn endpoint_is_read_only_from_a_ready_and_complete_file() {
        assert_eq!(ready_endpoint(PID_FILE_TEXT), Some(Endpoint::at("/d/run".into(), 5432)));
        assert_eq!(ready_endpoint(&PID_FILE_TEXT.replace("ready   ", "starting")), None);
        for part in 0..PID_FILE_TEXT.len() - "ready   \n".len() {
            assert_eq!(ready_endpoint(&PID_FILE_TEXT[..part]), None, "a half-written file");
        }
    }
}
