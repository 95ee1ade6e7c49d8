//! The user that PostgreSQL runs as, because PostgreSQL refuses to run as root.

use std::{
    fs, io,
    os::unix::{
        fs::{MetadataExt, lchown},
        process::CommandExt,
    },
    path::Path,
    process::{Command, Stdio},
};

use nix::unistd::{Uid, User};

use crate::db::embedded::Error;

/// The user that PostgreSQL runs as.
#[derive(Debug)]
pub(crate) struct Account {
    // None if that is the current user.
    other: Option<OtherUser>,
}

#[derive(Debug)]
struct OtherUser {
    name: String,
    uid: u32,
    gid: u32,
}

impl Account {
    /// Chooses the current user. For root, the owner of the cluster, else `postgres`, else `nobody`.
    pub(crate) fn choose(cluster: &Path) -> Result<Self, Error> {
        if !Uid::effective().is_root() {
            return Ok(Self { other: None });
        }
        // A cluster that was used without root keeps its owner, who may want to use it again.
        if let Ok(found) = fs::symlink_metadata(cluster)
            && found.is_dir()
            && found.uid() != 0
        {
            let user = User::from_uid(Uid::from_raw(found.uid())).ok().flatten();
            let name = user.map_or_else(|| found.uid().to_string(), |user| user.name);
            return Ok(Self { other: Some(OtherUser { name, uid: found.uid(), gid: found.gid() }) });
        }
        let user = ["postgres", "nobody"].into_iter().find_map(|name| User::from_name(name).ok().flatten());
        let user = user.ok_or(Error::NoAccount)?;
        Ok(Self { other: Some(OtherUser { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() }) })
    }

    /// Name of the user, if it is not the current one.
    pub(crate) fn name(&self) -> Option<&str> {
        self.other.as_ref().map(|other| other.name.as_str())
    }

    /// Creates a command that runs `program` as this user, without our environment: `PG*` and `LC_*` variables would
    /// change PostgreSQL's behavior.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LC_ALL", "C").env("TZ", "UTC");
        // This user may lack access to the current directory.
        command.current_dir("/");
        if let Some(other) = &self.other {
            // This also drops root's supplementary groups.
            command.uid(other.uid).gid(other.gid);
        }
        command
    }

    /// Makes this user the owner of `path`.
    pub(crate) fn chown(&self, path: &Path) -> Result<(), Error> {
        let Some(other) = &self.other else { return Ok(()) };
        lchown(path, Some(other.uid), Some(other.gid)).map_err(Error::files("changing the owner of", path))
    }

    /// Checks by trying that this user may enter `data_dir`, because file modes are not sufficient to tell.
    pub(crate) fn check_access(&self, data_dir: &Path) -> Result<(), Error> {
        let Some(account) = self.name() else { return Ok(()) };
        let shell = Path::new(crate::db::embedded::lifeline::SHELL);
        let entered = self
            .command(shell)
            .args(["-c", r#"cd -- "$1""#, "sh"])
            .arg(data_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map_err(|source| self.run_error(shell, source))?;
        if entered.success() {
            return Ok(());
        }
        Err(Error::NoAccess { data_dir: data_dir.into(), account: account.into() })
    }

    /// Creates the error for a program that this user could not run.
    pub(crate) fn run_error(&self, program: &Path, source: io::Error) -> Error {
        Error::Run { program: program.into(), account: self.name().map(Into::into), source }
    }
}
