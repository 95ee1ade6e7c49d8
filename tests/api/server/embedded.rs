//! The embedded PostgreSQL and its failures. These tests check processes, files and the socket, without SQL.

use std::{
    fs, iter,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    process, thread,
    time::{Duration, Instant},
};

use cloudapi::db::embedded::{self, Durability, Endpoint, Error, Options, PrivatePostgres};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid},
};
use tempfile::TempDir;

use crate::support::binary::{Deployment, Server};

/// Time limit of each wait.
const WAIT_LIMIT: Duration = Duration::from_secs(20);

fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("cloudapi-embedded-").tempdir_in("/tmp").unwrap();
    // The user that PostgreSQL runs as needs access.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// A folder in which PostgreSQL has been started before.
fn folder_with_cluster() -> TempDir {
    let folder = folder();
    crate::support::prepared::install(folder.path());
    folder
}

fn start(data_dir: impl Into<PathBuf>) -> Result<PrivatePostgres, Error> {
    let pg_bin = std::env::var_os("CLOUDAPI_PG_BIN").map(PathBuf::from);
    let options = Options { data_dir: data_dir.into(), pg_bin, durability: Durability::Volatile, max_connections: 10 };
    PrivatePostgres::start(options)
}

fn socket(endpoint: &Endpoint) -> PathBuf {
    endpoint.socket_dir.join(format!(".s.PGSQL.{}", endpoint.port))
}

fn accepts_connections(endpoint: &Endpoint) -> bool {
    UnixStream::connect(socket(endpoint)).is_ok()
}

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT_LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "timeout after {WAIT_LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The process ID in `postmaster.pid`, which exists while PostgreSQL runs.
fn postmaster(data_dir: &Path) -> Option<i32> {
    fs::read_to_string(data_dir.join("postgres/postmaster.pid")).ok()?.lines().next()?.parse().ok()
}

#[test]
fn first_start_creates_a_cluster_and_next_start_reuses_it() {
    let folder = folder();
    let data_dir = folder.path().join("made/for/us");
    let first = start(&data_dir).unwrap();
    assert!(first.is_new());
    assert!(accepts_connections(first.endpoint()));
    let socket_dir = fs::metadata(&first.endpoint().socket_dir).unwrap();
    assert_eq!(socket_dir.permissions().mode() & 0o777, 0o700, "access to the socket requires no password");
    let endpoint = first.endpoint().clone();
    first.stop().unwrap();
    assert!(!accepts_connections(&endpoint));
    assert_eq!(postmaster(&data_dir), None, "PostgreSQL was not stopped cleanly");

    let second = start(&data_dir).unwrap();
    assert!(!second.is_new());
    assert_eq!(second.endpoint(), &endpoint);
    second.stop().unwrap();
}

#[test]
fn second_start_fails_with_the_owner_process_and_changes_nothing() {
    let folder = folder_with_cluster();
    let first = start(folder.path()).unwrap();
    let error = start(folder.path()).unwrap_err().to_string();
    assert!(error.contains(&format!("process {} ", process::id())), "{error}");
    assert!(error.contains("CLOUDAPI_DATA_DIR") && error.contains("DATABASE_URL"), "{error}");
    assert!(accepts_connections(first.endpoint()));
    first.stop().unwrap();
}

#[test]
fn exactly_one_of_concurrent_starts_succeeds() {
    let folder = folder();
    let started: Vec<_> = thread::scope(|scope| {
        let starts: Vec<_> = (0..3).map(|_| scope.spawn(|| start(folder.path()))).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    let (won, lost): (Vec<_>, Vec<_>) = started.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(lost.iter().all(|start| matches!(start, Err(Error::Owned { .. }))), "{lost:?}");
    for winner in won {
        winner.unwrap().stop().unwrap();
    }
}

#[test]
fn commands_attach_to_the_postgresql_of_a_running_server() {
    let folder = folder();
    assert_eq!(embedded::attach(&folder.path().join("missing")).unwrap(), None);
    assert_eq!(embedded::attach(folder.path()).unwrap(), None);
    let postgres = start(folder.path()).unwrap();
    assert_eq!(embedded::attach(folder.path()).unwrap().as_ref(), Some(postgres.endpoint()));
    postgres.stop().unwrap();
    assert_eq!(embedded::attach(folder.path()).unwrap(), None);
}

#[test]
fn drop_stops_postgresql_and_next_start_waits_for_its_end() {
    let folder = folder_with_cluster();
    drop(start(folder.path()).unwrap());
    drop(start(folder.path()).unwrap());
    wait_until("PostgreSQL stopped", || postmaster(folder.path()).is_none());
}

#[test]
fn long_data_directory_has_its_socket_elsewhere() {
    let folder = folder();
    let postgres = start(folder.path().join("x".repeat(120))).unwrap();
    let socket = socket(postgres.endpoint());
    assert!(socket.as_os_str().len() <= 107, "{socket:?}");
    assert!(fs::metadata(&socket).unwrap().file_type().is_socket());
    let socket_dir = postgres.endpoint().socket_dir.clone();
    postgres.stop().unwrap();
    assert!(!socket_dir.exists(), "socket directory was not removed");
}

#[test]
fn leftovers_of_a_crash_do_not_prevent_the_next_start() {
    let folder = folder_with_cluster();
    // `postmaster.pid` with the ID of another running process, as after a reboot; a socket and its lock; an interrupted
    // initdb; a symbolic link in place of the `run` folder.
    let id = process::id();
    let run = folder.path().join("run");
    let note =
        format!("{id}\n{}\n1\n5432\n{}\n\n1 1\nready   \n", folder.path().join("postgres").display(), run.display());
    fs::write(folder.path().join("postgres/postmaster.pid"), note).unwrap();
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join(".s.PGSQL.5432"), "").unwrap();
    fs::write(run.join(".s.PGSQL.5432.lock"), format!("{id}\n")).unwrap();
    fs::create_dir_all(folder.path().join("postgres.unfinished/base")).unwrap();
    let postgres = start(folder.path()).unwrap();
    assert!(!postgres.is_new());
    assert!(accepts_connections(postgres.endpoint()));
    assert!(!folder.path().join("postgres.unfinished").exists());
    postgres.stop().unwrap();

    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("kept"), "").unwrap();
    std::os::unix::fs::symlink(&elsewhere, &run).unwrap();
    start(folder.path()).unwrap().stop().unwrap();
    assert!(elsewhere.join("kept").exists(), "symbolic link was followed");
}

#[test]
fn files_emptied_or_corrupted_by_a_power_failure_do_not_prevent_the_next_start() {
    let folder = folder_with_cluster();
    let cluster = folder.path().join("postgres");
    let garbage = [&b""[..], b"\0\0\0\0\0\0", b"\n", b"garbage\n", b"\xff\xfe\xfd", b"99999999999999\n"];
    for content in garbage {
        for file in ["postgres/postmaster.pid", "postgres/PG_VERSION", "postgres.lock", "owner.lock"] {
            fs::write(folder.path().join(file), content).unwrap();
        }
        let postgres = start(folder.path()).unwrap_or_else(|error| panic!("{content:?}: {error}"));
        assert!(accepts_connections(postgres.endpoint()) && !postgres.is_new(), "{content:?}");
        postgres.stop().unwrap();
        let version = fs::read_to_string(cluster.join("PG_VERSION")).unwrap();
        assert!(version.trim().parse::<u32>().is_ok(), "{content:?}: {version}");
    }
}

#[test]
fn empty_cluster_folder_is_used() {
    let folder = folder();
    fs::create_dir(folder.path().join("postgres")).unwrap();
    let postgres = start(folder.path()).unwrap();
    assert!(postgres.is_new() && accepts_connections(postgres.endpoint()));
    postgres.stop().unwrap();
}

#[test]
fn folder_that_is_not_a_cluster_is_refused_and_unchanged() {
    let folder = folder();
    fs::create_dir(folder.path().join("postgres")).unwrap();
    fs::write(folder.path().join("postgres/mine"), "").unwrap();
    assert!(matches!(start(folder.path()), Err(Error::NotACluster(_))));
    assert!(folder.path().join("postgres/mine").exists());
}

#[test]
fn error_names_the_data_directory_that_postgresql_cannot_access() {
    let folder = folder();
    if !Uid::effective().is_root() {
        return;
    }
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let error = start(closed.join("data")).unwrap_err();
    assert!(matches!(error, Error::NoAccess { .. }), "{error}");
    assert!(error.to_string().contains("CLOUDAPI_DATA_DIR"), "{error}");
}

#[test]
fn error_names_the_setting_if_postgresql_programs_are_missing() {
    let folder = folder();
    let options = Options {
        data_dir: folder.path().join("data"),
        pg_bin: Some(folder.path().join("bin")),
        durability: Durability::Volatile,
        max_connections: 10,
    };
    let error = PrivatePostgres::start(options).unwrap_err().to_string();
    assert!(error.starts_with(&format!("CLOUDAPI_PG_BIN = {}", folder.path().join("bin").display())), "{error}");
}

#[test]
fn data_of_a_postgresql_version_that_is_not_installed_are_refused() {
    let folder = folder();
    fs::create_dir(folder.path().join("postgres")).unwrap();
    fs::write(folder.path().join("postgres/PG_VERSION"), "11\n").unwrap();
    let error = start(folder.path()).unwrap_err();
    assert!(matches!(error, Error::OtherMajor { needed: 11, .. }), "{error}");
}

// The tests below run the real binary, because they kill it.

fn data_dir(deployment: &Deployment) -> PathBuf {
    deployment.folder().join("data")
}

fn serve(deployment: &Deployment) -> Server {
    Server::start(deployment.command(&["serve", "--no-demo"]))
}

fn kill_hard(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

/// Whether the process exists and is not a zombie.
fn runs(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with(['Z', 'X']))
}

/// The shell that waits until this deployment's server ends.
fn lifeline(data_dir: &Path) -> i32 {
    let cluster = data_dir.join("postgres").display().to_string();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .find(|pid| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command);
            command.contains("\0cloudapi-lifeline\0") && command.contains(&cluster)
        })
        .expect("lifeline is running")
}

fn log(data_dir: &Path) -> String {
    fs::read_to_string(data_dir.join("postgres.log")).unwrap()
}

#[test]
fn postgresql_shuts_down_cleanly_when_its_server_is_killed() {
    let deployment = Deployment::prepared();
    let data_dir = data_dir(&deployment);
    let server = serve(&deployment);
    let postgres = postmaster(&data_dir).unwrap();
    assert!(server.end(Signal::SIGKILL).was_killed());
    wait_until("PostgreSQL ended", || !runs(postgres));
    assert!(log(&data_dir).trim_end().ends_with("database system is shut down"), "{}", log(&data_dir));
    assert_eq!(postmaster(&data_dir), None);

    // Again, but the next server starts while the last PostgreSQL is stopping.
    assert!(serve(&deployment).end(Signal::SIGKILL).was_killed());
    let ended = serve(&deployment).end(Signal::SIGTERM);
    assert!(ended.status.success(), "{:?}", ended.errors);
    assert!(!log(&data_dir).contains("recovery"), "{}", log(&data_dir));
    assert_eq!(postmaster(&data_dir), None);
}

#[cfg(target_os = "linux")]
#[test]
fn orphaned_postgresql_is_stopped_by_the_next_start() {
    let deployment = Deployment::prepared();
    let data_dir = data_dir(&deployment);
    let server = serve(&deployment);
    let orphan = postmaster(&data_dir).unwrap();
    kill_hard(lifeline(&data_dir));
    assert!(server.end(Signal::SIGKILL).was_killed());
    assert!(runs(orphan), "orphan is not running");

    let server = serve(&deployment);
    assert!(!runs(orphan));
    assert_ne!(postmaster(&data_dir), Some(orphan));
    assert!(!log(&data_dir).contains("recovery"), "{}", log(&data_dir));

    // All processes are killed: `postmaster.pid` remains, with the ID of a process that may be a zombie.
    let postgres = postmaster(&data_dir).unwrap();
    kill_hard(lifeline(&data_dir));
    kill_hard(postgres);
    assert!(server.end(Signal::SIGKILL).was_killed());
    let ended = serve(&deployment).end(Signal::SIGTERM);
    assert!(ended.status.success(), "{:?}", ended.errors);
    assert!(log(&data_dir).contains("recovery"), "{}", log(&data_dir));
}

#[cfg(target_os = "linux")]
#[test]
fn orphaned_postgresql_is_found_without_its_pid_file_and_lock() {
    let deployment = Deployment::prepared();
    let data_dir = data_dir(&deployment);
    let server = serve(&deployment);
    let orphan = postmaster(&data_dir).unwrap();
    kill_hard(lifeline(&data_dir));
    assert!(server.end(Signal::SIGKILL).was_killed());
    assert!(runs(orphan), "orphan is not running");
    fs::write(data_dir.join("postgres/postmaster.pid"), "").unwrap();
    fs::remove_file(data_dir.join("postgres.lock")).unwrap();
    let ended = serve(&deployment).end(Signal::SIGTERM);
    assert!(ended.status.success(), "{:?}", ended.errors);
    assert!(!runs(orphan));
}

#[test]
fn error_names_the_empty_key_file_and_the_remedy() {
    let deployment = Deployment::prepared();
    serve(&deployment).end(Signal::SIGTERM).expect_success();
    fs::write(data_dir(&deployment).join("secret.key"), "").unwrap();
    let Err(said) = Server::try_start(deployment.command(&["serve"])) else {
        panic!("server started with an empty key file")
    };
    assert!(said.contains("secret.key") && said.contains("restore the file"), "{said}");
}

#[test]
fn corrupt_usage_journal_is_renamed() {
    let deployment = Deployment::prepared();
    serve(&deployment).end(Signal::SIGTERM).expect_success();
    let folder = data_dir(&deployment).join("usage");
    for (name, content) in [("a.journal", &b""[..]), ("b.journal", b"garbage"), ("c.journal", &[0; 8192])] {
        fs::write(folder.join(name), content).unwrap();
    }
    serve(&deployment).end(Signal::SIGTERM).expect_success();
    for name in ["a.damaged", "b.damaged", "c.damaged"] {
        assert!(folder.join(name).exists(), "{name}");
    }
}

/// Starts a server in a new deployment and kills it; returns whether it was killed before its cluster was created.
fn is_cut_off_half_way(deployment: &Deployment) -> bool {
    let (data_dir, mut cut_off) = (data_dir(deployment), deployment.command(&["serve", "--no-demo"]).spawn().unwrap());
    let made = || data_dir.join("postgres").exists();
    wait_until("initdb started", || data_dir.join("postgres.unfinished/PG_VERSION").exists() || made());
    cut_off.kill().unwrap();
    cut_off.wait().unwrap();
    !made()
}

#[test]
fn interrupted_first_start_is_restarted_from_the_beginning() {
    // Repeated if the server had already created its cluster when it was killed.
    let deployment = iter::repeat_with(Deployment::new).find(is_cut_off_half_way).unwrap();
    let data_dir = data_dir(&deployment);
    let ended = serve(&deployment).end(Signal::SIGTERM);
    assert!(ended.status.success(), "{:?}", ended.errors);
    assert!(!data_dir.join("postgres.unfinished").exists());
}

#[test]
fn postgresql_and_locale_environment_variables_have_no_effect() {
    let deployment = Deployment::new();
    let mut command = deployment.command(&["serve", "--no-demo"]);
    for name in ["PGDATA", "PGHOST", "PGUSER", "PGDATABASE", "PGPASSFILE", "LC_ALL", "LC_MESSAGES", "LANG", "TZ"] {
        command.env(name, "/junk");
    }
    command.env("PGPORT", "1").env("PGSSLMODE", "verify-full").env("PGOPTIONS", "-c junk=1");
    Server::start(command).end(Signal::SIGTERM).expect_success();
}
