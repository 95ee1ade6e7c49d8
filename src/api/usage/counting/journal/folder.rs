//! Folder with the journals of a machine's servers. Each server has its own journals, and the next server that starts
//! adopts those of servers that were killed.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{
    Journal,
    file::{self, EXTENSION, OpenError},
};

/// Folder of journals of one database.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    database: Uuid,
    slots: usize,
}

impl Folder {
    /// Opens the folder at `path`, and creates it if missing. New journals have `slots` slots.
    pub fn open(path: &Path, database: Uuid, slots: usize) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Ok(Self { path: path.to_owned(), database, slots })
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adopts the journals that no server uses.
    pub fn adopt(&self) -> io::Result<Vec<Journal>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            match path.extension().and_then(OsStr::to_str) {
                Some(EXTENSION) => paths.push(path),
                // Creation was interrupted, so nothing was counted in it.
                Some("new") if is_abandoned(&path) => fs::remove_file(&path)?,
                _ => {}
            }
        }
        paths.sort();
        Ok(paths.iter().filter_map(|path| self.adopt_one(path)).collect())
    }

    fn adopt_one(&self, path: &Path) -> Option<Journal> {
        let path_display = path.display();
        match file::open(path, self.database) {
            Ok(opened) => {
                let journal = Journal::in_file(opened);
                if journal.torn > 0 {
                    tracing::error!(
                        "{} counters of the usage journal {path_display} are damaged, as after a power failure, and are not counted; the others are",
                        journal.torn
                    );
                }
                Some(journal)
            }
            Err(OpenError::Locked) => None,
            // Another server has flushed and removed it.
            Err(OpenError::Io(error)) if error.kind() == io::ErrorKind::NotFound => None,
            Err(reason @ OpenError::OtherDatabase) => {
                quarantine(path, "of-another-database", &reason);
                None
            }
            Err(reason @ OpenError::InvalidFormat) => {
                quarantine(path, "damaged", &reason);
                None
            }
            Err(OpenError::Io(error)) => {
                tracing::error!(%error, "the usage journal {path_display} cannot be opened, so its requests are not counted; fix the cause, then run 'cloudapi usage import {path_display}'");
                None
            }
        }
    }

    /// Creates a journal.
    pub fn create(&self) -> io::Result<Journal> {
        file::create(&self.path, self.database, self.slots).map(Journal::in_file)
    }
}

/// Reports whether no server is about to complete the file.
fn is_abandoned(path: &Path) -> bool {
    fs::File::open(path).is_ok_and(|file| file.try_lock().is_ok())
}

fn quarantine(path: &Path, extension: &str, reason: &OpenError) {
    let renamed = path.with_extension(extension);
    match fs::rename(path, &renamed) {
        Ok(()) => tracing::warn!(
            "the usage journal {} was renamed to {} and is not counted: {reason}",
            path.display(),
            renamed.display()
        ),
        Err(error) => tracing::warn!(%error, "the usage journal {} is not counted: {reason}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;
    use crate::{
        api::usage::counting::journal::slot::CounterKey,
        base::{id::KeyId, identity::credential::CredentialId},
    };

    #[test]
    fn unused_journals_are_adopted_and_foreign_files_are_renamed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("usage");
        let database = Uuid::from_u128(1);
        let folder = Folder::open(&path, database, 64).unwrap();
        let encoded = CounterKey {
            project: None,
            credential: CredentialId::Key(KeyId::new()),
            route: 1,
            day: date!(2026 - 03 - 01),
        }
        .encode();
        let (mine, left) = (folder.create().unwrap(), folder.create().unwrap());
        left.find_or_claim(&encoded).unwrap().add(1);
        let id = left.id;
        drop(left);
        Folder::open(&path, Uuid::from_u128(2), 64).unwrap().create().unwrap();
        fs::write(path.join("x.journal"), "no journal").unwrap();
        fs::write(path.join("x.new"), "unfinished").unwrap();

        let adopted = folder.adopt().unwrap();
        assert_eq!(adopted.iter().map(|journal| journal.id).collect::<Vec<_>>(), [id]);
        assert_eq!(adopted[0].changed_since(&[])[0].now.count, 1);
        let mut extensions: Vec<_> = fs::read_dir(&path)
            .unwrap()
            .map(|entry| entry.unwrap().path().extension().unwrap().to_str().unwrap().to_owned())
            .collect();
        extensions.sort();
        assert_eq!(extensions, ["damaged", "journal", "journal", "of-another-database"]);
        drop(mine);
    }
}
