//! The folder in which a machine's servers keep their journals: each its own, and those of servers that were killed
//! are taken over by whichever starts next.

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

/// A folder of journals of one database.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    database: Uuid,
    slots: usize,
}

impl Folder {
    /// The folder at `path`, made if it is not there. New journals get so many slots.
    pub fn open(path: &Path, database: Uuid, slots: usize) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Ok(Self { path: path.to_owned(), database, slots })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes over the journals that no server counts in.
    pub fn adopt(&self) -> io::Result<Vec<Journal>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            match path.extension().and_then(OsStr::to_str) {
                Some(EXTENSION) => paths.push(path),
                // Begun and never finished; nobody has counted in it.
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
                        "{} counters of the usage journal {shown} are damaged, as after a power cut, and cannot be counted; the others are",
                        journal.torn
                    );
                }
                Some(journal)
            }
            Err(Unusable::Locked) => None,
            // Whoever had it was done with it.
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
                tracing::error!(%error, "the usage journal {shown} cannot be opened, so what is in it is not counted; mend that, then run 'cloudapi usage import {shown}'");
                None
            }
        }
    }

    /// Makes a new journal.
    pub fn create(&self) -> io::Result<Journal> {
        file::create(&self.path, self.database, self.slots).map(Journal::in_file)
    }
}

/// Whether no server is about to finish it.
fn is_left(path: &Path) -> bool {
    fs::File::open(path).is_ok_and(|file| file.try_lock().is_ok())
}

fn set_aside(path: &Path, why: &str, reason: &Unusable) {
    let aside = path.with_extension(why);
    match fs::rename(path, &aside) {
        Ok(()) => tracing::warn!(
            "the usage journal {} is set aside as {}, and not counted: {reason}",
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
    fn what_nobody_counts_in_is_taken_over_and_what_is_not_ours_is_set_aside() {
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
