//! Search for PostgreSQL's server programs.

use std::{
    collections::BTreeSet,
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::OsStringExt,
    path::{self, Path, PathBuf},
    process::Stdio,
};

use super::{Error, folders::account::Account, hint};

/// Oldest supported major version.
const OLDEST: u32 = 14;

/// Folders with the version in their names: parent folder, prefix of the name, and subfolder.
const SEARCH_PATHS: [(&str, &str, &str); 7] = [
    // Debian and Ubuntu.
    ("/usr/lib/postgresql", "", "bin"),
    // PostgreSQL's packages for Fedora and RHEL.
    ("/usr", "pgsql-", "bin"),
    // Alpine.
    ("/usr/libexec", "postgresql", ""),
    // Homebrew, on Apple silicon and on Intel.
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    // Postgres.app.
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    // Fedora and Arch, for services whose PATH does not contain it.
    ("/usr", "bin", ""),
];

/// PostgreSQL's server programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Programs {
    /// Folder of the programs.
    pub(super) bin: PathBuf,
    /// Major version.
    pub(super) major: u32,
}

impl Programs {
    /// Path of the server program.
    pub(super) fn postgres(&self) -> PathBuf {
        self.bin.join("postgres")
    }

    /// Path of `initdb`.
    pub(super) fn initdb(&self) -> PathBuf {
        self.bin.join("initdb")
    }
}

/// Finds the programs: only in the operator's folder if one is `given`, else among those installed. Selects major
/// version `needed`, or the newest.
pub(super) fn find(account: &Account, given: Option<&Path>, needed: Option<u32>) -> Result<Programs, Error> {
    match given {
        Some(folder) => find_given(account, folder, needed),
        None => find_installed(account, &SEARCH_PATHS, env::var_os("PATH").as_deref(), needed),
    }
}

fn find_given(account: &Account, folder: &Path, needed: Option<u32>) -> Result<Programs, Error> {
    let not_there = |why| Error::NotInFolder { folder: folder.into(), why };
    // Programs run in another working directory, so the path must be absolute.
    let bin = path::absolute(folder).map_err(|error| not_there(error.to_string()))?;
    let programs = probe(account, bin).map_err(not_there)?;
    match needed {
        Some(needed) if needed != programs.major => {
            let found = format!("it has {}", programs.major);
            Err(Error::OtherMajor { needed, where_not: "is not in CLOUDAPI_PG_BIN".into(), found })
        }
        None if programs.major < OLDEST => Err(Error::TooOld { folder: folder.into(), major: programs.major }),
        _ => Ok(programs),
    }
}

fn find_installed(
    account: &Account,
    search_paths: &[(&str, &str, &str)],
    path: Option<&OsStr>,
    needed: Option<u32>,
) -> Result<Programs, Error> {
    let mut found: Vec<Programs> = Vec::new();
    for folder in folders(account, search_paths, path) {
        match probe(account, folder) {
            Ok(programs) => found.push(programs),
            Err(why) => tracing::debug!(why, "not PostgreSQL"),
        }
    }
    match (choose(&found, needed), needed) {
        (Some(programs), _) => Ok(programs.clone()),
        (None, Some(needed)) if !found.is_empty() => {
            let majors: BTreeSet<_> = found.iter().map(|programs| programs.major).collect();
            let found: Vec<_> = majors.iter().map(u32::to_string).collect();
            let found = format!("installed: {}", found.join(", "));
            Err(Error::OtherMajor { needed, where_not: "is not installed".into(), found })
        }
        _ => Err(Error::NotInstalled(hint::install())),
    }
}

/// Selects the version that wrote the data, or the newest. Of equal versions, the first that was found.
fn choose(found: &[Programs], needed: Option<u32>) -> Option<&Programs> {
    match needed {
        Some(needed) => found.iter().find(|programs| programs.major == needed),
        None => found.iter().rev().filter(|programs| programs.major >= OLDEST).max_by_key(|programs| programs.major),
    }
}

/// Folders on this machine that may contain the programs, without duplicates.
fn folders(account: &Account, search_paths: &[(&str, &str, &str)], path: Option<&OsStr>) -> Vec<PathBuf> {
    let versioned = search_paths.iter().flat_map(|(parent, prefix, subfolder)| {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()))
            .map(move |entry| entry.path().join(subfolder))
    });
    let path: Vec<_> = path.into_iter().flat_map(env::split_paths).filter(|folder| folder.is_absolute()).collect();
    let configured = path.iter().find_map(|folder| pg_config(account, &folder.join("pg_config")));
    let mut folders: Vec<PathBuf> = Vec::new();
    for folder in versioned.chain(path).chain(configured) {
        if let Ok(folder) = fs::canonicalize(folder)
            && folder.join("postgres").exists()
            && !folders.contains(&folder)
        {
            folders.push(folder);
        }
    }
    folders
}

fn pg_config(account: &Account, program: &Path) -> Option<PathBuf> {
    if !program.exists() {
        return None;
    }
    let output = account.command(program).arg("--bindir").stdin(Stdio::null()).output().ok()?;
    let line = output.stdout.trim_ascii_end().to_vec();
    (output.status.success() && !line.is_empty()).then(|| OsString::from_vec(line).into())
}

/// Queries the version of the programs in `bin`, as the user that will run them.
fn probe(account: &Account, bin: PathBuf) -> Result<Programs, String> {
    let postgres = bin.join("postgres");
    let output = account.command(&postgres).arg("--version").stdin(Stdio::null()).output().map_err(|error| {
        match account.name() {
            Some(account) => format!("{} as the user {account}: {error}", postgres.display()),
            None => format!("{}: {error}", postgres.display()),
        }
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let major = major_in(&text).ok_or_else(|| {
        let error = String::from_utf8_lossy(&output.stderr);
        format!("{} --version printed: {}{}", postgres.display(), text.trim(), error.trim())
    })?;
    let programs = Programs { bin, major };
    if !programs.initdb().exists() {
        return Err(format!("{} is missing", programs.initdb().display()));
    }
    Ok(programs)
}

/// Parses the major version in the output of `postgres --version`.
fn major_in(text: &str) -> Option<u32> {
    let (_, version) = text.split_once("(PostgreSQL) ")?;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(bin: &str, major: u32) -> Programs {
        Programs { bin: bin.into(), major }
    }

    fn account() -> Account {
        Account::choose(Path::new("/nonexistent")).unwrap()
    }

    #[test]
    fn major_version_is_parsed_in_every_format() {
        for (text, major) in [
            ("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)\n", Some(15)),
            ("postgres (PostgreSQL) 18beta1\n", Some(18)),
            ("postgres (PostgreSQL) 19devel", Some(19)),
            ("postgres (PostgreSQL) 9.6.24", Some(9)),
            ("postgres (EnterpriseDB) 15.1", None),
            ("", None),
        ] {
            assert_eq!(major_in(text), major, "{text:?}");
        }
    }

    #[test]
    fn version_that_wrote_the_data_is_chosen_or_else_the_newest() {
        let found = [programs("/a", 15), programs("/b", 17), programs("/c", 17), programs("/d", 13)];
        assert_eq!(choose(&found, None), Some(&programs("/b", 17)));
        assert_eq!(choose(&found, Some(15)), Some(&programs("/a", 15)));
        assert_eq!(choose(&found, Some(13)), Some(&programs("/d", 13)));
        assert_eq!(choose(&found, Some(16)), None);
        assert_eq!(choose(&[programs("/d", 13)], None), None);
    }

    #[test]
    fn missing_postgresql_error_says_how_to_install_it() {
        for needed in [None, Some(15)] {
            let error = find_installed(&account(), &[], Some(OsStr::new("")), needed).unwrap_err();
            assert!(matches!(&error, Error::NotInstalled(_)), "{error}");
            assert!(error.to_string().contains("apt-get install postgresql"), "{error}");
        }
    }

    #[test]
    fn folder_without_postgresql_is_named_in_the_error() {
        let error = find_given(&account(), Path::new("/nonexistent"), None).unwrap_err();
        assert!(error.to_string().starts_with("CLOUDAPI_PG_BIN = /nonexistent has no usable PostgreSQL"), "{error}");
    }
}
