//! A standby of a private PostgreSQL.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use cloudapi::db::embedded::{Options, PrivatePostgres};

/// The application name with which the standby connects to its primary.
pub const NAME: &str = "standby";

/// Starts a standby of `primary`, which was started with `options`, in another folder. Blocks.
pub fn start(primary: &PrivatePostgres, options: &Options, data_dir: PathBuf) -> PrivatePostgres {
    let endpoint = primary.endpoint();
    let (original, copy) = (options.data_dir.join("postgres"), data_dir.join("postgres"));
    fs::create_dir(&data_dir).unwrap();
    // PostgreSQL may run as another user, which needs access.
    fs::set_permissions(&data_dir, fs::metadata(&options.data_dir).unwrap().permissions()).unwrap();
    let copied = Command::new(programs(&original).join("pg_basebackup"))
        .args(["--no-sync", "--checkpoint=fast", "--wal-method=stream"])
        .arg(format!("--host={}", endpoint.socket_dir.display()))
        .arg(format!("--port={}", endpoint.port))
        .arg(format!("--username={}", endpoint.user))
        .arg(format!("--pgdata={}", copy.display()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(copied.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&copied.stderr));
    let conninfo = format!(
        "primary_conninfo = 'host={} port={} user={} application_name={NAME}'\n",
        endpoint.socket_dir.display(),
        endpoint.port,
        endpoint.user
    );
    let settings = copy.join("postgresql.auto.conf");
    fs::write(&settings, fs::read_to_string(&settings).unwrap() + &conninfo).unwrap();
    fs::write(copy.join("standby.signal"), "").unwrap();
    change_owner(&copy, &fs::metadata(&original).unwrap());
    PrivatePostgres::start(Options { data_dir, ..options.clone() }).unwrap()
}

/// The folder with the PostgreSQL programs that run this cluster.
fn programs(cluster: &Path) -> PathBuf {
    let command = fs::read_to_string(cluster.join("postmaster.opts")).unwrap();
    let program = command.split_whitespace().next().unwrap().trim_matches('"');
    Path::new(program).parent().unwrap().to_owned()
}

/// Gives the files to PostgreSQL's user.
fn change_owner(path: &Path, like: &fs::Metadata) {
    chown(path, Some(like.uid()), Some(like.gid())).unwrap();
    let mode = if path.is_dir() { 0o700 } else { 0o600 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            change_owner(&entry.unwrap().path(), like);
        }
    }
}
