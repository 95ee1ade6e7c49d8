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
    file::{self, EXTENSION, Unusable},
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
                Some("new") if is_left(&path) => fs::remove_file(&path)?,
                _ => {}
            }
        }
        paths.sort();
        Ok(paths.iter().filter_map(|path| self.adopt_one(path)).collect())
    }

    fn adopt_one(&self, path: &Path) -> Option<Journal> {
        let shown = path.display();
        match file::open(path, self.database) {
            Ok(opened) => {
                let journal = Journal::in_file(opened);
                if journal.torn > 0 {
                    tracing::error!(
                        "{} counters of the usage journal {shown} are damaged, as after a power failure, and are not counted; the others are",
                        journal.torn
                    );
                }
                Some(journal)
            }
            Err(Unusable::Locked) => None,
            // Another server has flushed and removed it.
            Err(Unusable::Io(error)) if error.kind() == io::ErrorKind::NotFound => None,
            Err(reason @ Unusable::Foreign) => {
                set_aside(path, "of-another-database", &reason);
                None
            }
            Err(reason @ Unusable::NoJournal) => {
                set_aside(path, "damaged", &reason);
                None
            }
            Err(Unusable::Io(error)) => {
                tracing::error!(%error, "the usage journal {shown} cannot be opened, so its requests are not counted; fix the cause, then run 'cloudapi usage import {shown}'");
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
fn is_left(path: &Path) -> bool {
    fs::File::open(path).is_ok_and(|file| file.try_lock().is_ok())
}

fn set_aside(path: &Path, why: &str, reason: &Unusable) {
    let aside = path.with_extension(why);
    match fs::rename(path, &aside) {
        Ok(()) => tracing::warn!(
            "the usage journal {} was renamed to {} and is not counted: {reason}",
            path.display(),
            aside.display()
        ),
        Err(error) => tracing::warn!(%error, "the usage journal {} is not counted: {reason}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;
    use crate::{
        base::{credential::CredentialId, id::KeyId},
        usage::journal::slot::Counted,
    };

    #[test]
    fn unused_journals_are_adopted_and_foreign_files_are_renamed() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("usage");
        let database = Uuid::from_u128(1);
        let folder = Folder::open(&path, database, 64).unwrap();
        let words = Counted {
            project: None,
            credential: CredentialId::Key(KeyId::new()),
            route: 1,
            day: date!(2026 - 03 - 01),
        }
        .words();
        let (mine, left) = (folder.create().unwrap(), folder.create().unwrap());
        left.find_or_take(&words).unwrap().add(1);
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
