//! What runs on the cluster: told by the lock that all of PostgreSQL's processes hold, and by
//! `postmaster.pid`, PostgreSQL's own note.

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

use super::{Endpoint, Error, PAUSE};

/// The file whose lock all of PostgreSQL's processes hold: it is free when the last one is gone, be
/// that a child that outlived a killed parent, or an initdb.
pub(super) const LOCK: &str = "postgres.lock";
/// How long an earlier PostgreSQL may take to stop.
const STOP_TIME: Duration = Duration::from_secs(30);

/// Who has the process id in `postmaster.pid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// No process.
    Nobody,
    /// Our cluster's PostgreSQL.
    Ours(Pid),
    /// A process that got the id later, or a zombie that nobody has reaped: both answer to signal 0, so
    /// PostgreSQL would take them for another of itself.
    Impostor,
    /// A PostgreSQL of which we may not see where it works.
    Unclear,
}

/// Waits until nothing of an earlier PostgreSQL runs, and stops what does. Afterwards `lock` is ours.
pub(super) fn take_over(cluster: &Path, lock: &File) -> Result<(), Error> {
    let deadline = Instant::now() + STOP_TIME;
    let mut locked = false;
    let mut told = None;
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
        // Looked at even so: someone may have removed the lock's file.
        let holder = holder(cluster)?;
        match holder {
            // Usually its lifeline has told it already, and being told twice changes nothing.
            Holder::Ours(pid) if told != Some(pid) => {
                tracing::debug!(%pid, "stopping PostgreSQL");
                // If it has just ended, all the better.
                let _ = kill(pid, Signal::SIGINT);
                told = Some(pid);
            }
            Holder::Ours(_) => {}
            Holder::Nobody | Holder::Impostor | Holder::Unclear if locked => return Ok(()),
            Holder::Nobody | Holder::Impostor | Holder::Unclear => {}
        }
        if Instant::now() > deadline {
            let who = match holder {
                Holder::Ours(pid) => format!("process {pid}"),
                _ => format!("processes that hold {}", cluster.with_file_name(LOCK).display()),
            };
            return Err(Error::StillRunning { cluster: cluster.into(), who, seconds: STOP_TIME.as_secs() });
        }
        thread::sleep(PAUSE);
    }
}

/// Removes a `postmaster.pid` that would hold up PostgreSQL for nothing: one with the id of another process, and one
/// without a process id, as after a power cut. A plainly stale one stays: PostgreSQL itself looks in it for its shared
/// memory, a last guard against two at once.
pub(super) fn remove_stale(cluster: &Path) -> Result<(), Error> {
    let is_garbled = read(cluster)?.is_some_and(|text| process_id(&text).is_none());
    if !is_garbled && holder(cluster)? != Holder::Impostor {
        return Ok(());
    }
    let path = note(cluster);
    if is_garbled {
        tracing::warn!(
            "{} holds no process id, as after a power cut; removed, as PostgreSQL is not running",
            path.display()
        );
    }
    fs::remove_file(&path).map_err(Error::files("removing", path))
}

/// Where the cluster's PostgreSQL is reached, if its note says that it takes connections.
pub(super) fn endpoint(cluster: &Path) -> Result<Option<Endpoint>, Error> {
    Ok(read(cluster)?.and_then(|text| ready_endpoint(&text)))
}

/// Who has the process id in the cluster's `postmaster.pid`.
pub(super) fn holder(cluster: &Path) -> Result<Holder, Error> {
    let Some(text) = read(cluster)? else { return Ok(Holder::Nobody) };
    // Without an id, an orphan is still found by where it works.
    let Some(pid) = process_id(&text) else { return Ok(running(cluster).map_or(Holder::Nobody, Holder::Ours)) };
    if kill(pid, None) == Err(Errno::ESRCH) {
        return Ok(Holder::Nobody);
    }
    let command = command_line(pid);
    let program = command.split(|byte| matches!(byte, 0 | b' ')).next().unwrap_or_default();
    let program = Path::new(OsStr::from_bytes(program)).file_name().unwrap_or_default();
    // Children call themselves "postgres: …"; a zombie has no command line.
    if program != "postgres" && program != "postgres:" && program != "postmaster" {
        return Ok(Holder::Impostor);
    }
    // PostgreSQL works in its data directory. Root without all rights, as in a container, may not look.
    Ok(match fs::read_link(format!("/proc/{pid}/cwd")) {
        Ok(folder) if folder == cluster => Holder::Ours(pid),
        Ok(_) => Holder::Impostor,
        Err(_) if contains(&command, cluster.as_os_str().as_bytes()) => Holder::Ours(pid),
        Err(_) => Holder::Unclear,
    })
}

/// The process id in PostgreSQL's note. It is negative of one that serves nobody (`postgres --single`).
fn process_id(text: &str) -> Option<Pid> {
    let id: i32 = first_line(text)?.parse().ok()?;
    id.checked_abs().filter(|id| *id != 0).map(Pid::from_raw)
}

/// The PostgreSQL that works on the cluster, where the system tells.
fn running(cluster: &Path) -> Option<Pid> {
    let processes = fs::read_dir("/proc").ok()?;
    let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Pid::from_raw));
    let works_here = |pid: &Pid| {
        let command = command_line(*pid);
        let program = command.split(|byte| *byte == 0).next().unwrap_or_default();
        // Not one of its children, which call themselves "postgres: …".
        Path::new(OsStr::from_bytes(program)).file_name().is_some_and(|name| name == "postgres")
            && fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|folder| folder == cluster)
    };
    ids.into_iter().find(works_here)
}

fn command_line(pid: Pid) -> Vec<u8> {
    if Path::new("/proc/self/cmdline").exists() {
        return fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    }
    let said = Command::new("/bin/ps").args(["-o", "args=", "-p", &pid.to_string()]).output();
    // ps shows a zombie as "<defunct>" or "(postgres)".
    said.map(|said| said.stdout).unwrap_or_default()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn note(cluster: &Path) -> PathBuf {
    cluster.join("postmaster.pid")
}

fn read(cluster: &Path) -> Result<Option<String>, Error> {
    let path = note(cluster);
    match fs::read(&path) {
        Ok(text) => Ok(Some(String::from_utf8_lossy(&text).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::files("reading", path)(error)),
    }
}

fn first_line(text: &str) -> Option<&str> {
    text.lines().next().map(str::trim)
}

/// The lines: process id, data directory, start time, port, socket folder, address, shared memory, status.
fn ready_endpoint(text: &str) -> Option<Endpoint> {
    let mut lines = text.lines().skip(3);
    let port = lines.next()?.trim().parse().ok()?;
    let socket_dir = lines.next()?;
    (lines.nth(2)?.trim() == "ready").then(|| Endpoint::at(socket_dir.into(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTE: &str = "17\n/d/postgres\n1700000000\n5432\n/d/run\n\n  1234  5\nready   \n";

    #[test]
    fn a_note_without_a_process_id_is_told_from_one_with_it() {
        for (text, id) in [("17\n/d", Some(17)), (" 17", Some(17)), ("-17\n", Some(17))] {
            assert_eq!(process_id(text), id.map(Pid::from_raw), "{text:?}");
        }
        for text in ["", "\n", "\0\0\0\0", "0\n", "abc\n", "17x\n", "\n17\n", "99999999999\n", "\u{fffd}17"] {
            assert_eq!(process_id(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_note_tells_where_a_ready_postgresql_is() {
        assert_eq!(ready_endpoint(NOTE), Some(Endpoint::at("/d/run".into(), 5432)));
        assert_eq!(ready_endpoint(&NOTE.replace("ready   ", "starting")), None);
        for part in 0..NOTE.len() - "ready   \n".len() {
            assert_eq!(ready_endpoint(&NOTE[..part]), None, "a half-written note");
        }
    }
}
