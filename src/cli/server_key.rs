//! The file with the deployment's key.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use anyhow::{Context, bail};

use crate::{
    base::server_key::ServerKey,
    server::config::{Settings, redaction},
};

const NAME: &str = "secret.key";

/// Reads the key that `settings` name. Without a name, the key is in the data directory, and is created if missing.
pub fn load(settings: &Settings) -> anyhow::Result<ServerKey> {
    match &settings.secret_key_file {
        Some(file) => read(file).with_context(|| {
            format!(
                "CLOUDAPI_SECRET_KEY_FILE (--secret-key-file){} cannot be used; it must name a file: copy the file of another server of this deployment, or create the first one with: openssl rand -hex 32",
                redaction::display_path(file)
            )
        }),
        None => {
            let file = settings.data_dir().join(NAME);
            let unusable = || {
                format!(
                    "the deployment's key in {} cannot be used; restore the file from a backup. Without a backup, delete the file, start again to create a new key, and see 'cloudapi admin replace-key --help'",
                    file.display()
                )
            };
            match read(&file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => create(&file).with_context(unusable),
                read => read.with_context(unusable),
            }
        }
    }
}

/// Reads the key as [`load`] does, but never creates one: signing or verifying with a new key would be meaningless.
pub fn existing(settings: &Settings) -> anyhow::Result<ServerKey> {
    let file = settings.data_dir().join(NAME);
    if settings.secret_key_file.is_none() && !file.exists() {
        bail!(
            "there is no key in {}; set the key file of a server of this deployment with CLOUDAPI_SECRET_KEY_FILE (--secret-key-file), or start a server here first",
            file.display()
        );
    }
    load(settings)
}

fn read(file: &Path) -> io::Result<ServerKey> {
    let text = fs::read_to_string(file)?;
    if fs::metadata(file)?.mode() & 0o007 != 0 {
        tracing::warn!("{} can be read by every user on this machine; chmod 600 it", file.display());
    }
    ServerKey::parse(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Creates a key, unless another process has just done so. The file is written under a temporary name and then linked,
/// so it is never partial.
fn create(file: &Path) -> anyhow::Result<ServerKey> {
    let Some(folder) = file.parent() else { bail!("the path has no parent folder") };
    DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    let temporary = folder.join(format!(".{NAME}.{}", std::process::id()));
    let mut new = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    new.write_all(format!("{}\n", ServerKey::generate().to_text()).as_bytes())?;
    new.sync_all()?;
    let linked = fs::hard_link(&temporary, file);
    fs::remove_file(&temporary)?;
    match linked {
        Ok(()) => {
            File::open(folder)?.sync_all()?;
            tracing::warn!(
                "created the deployment's key, {}; back it up, and give it to every other server of this deployment (CLOUDAPI_SECRET_KEY_FILE)",
                file.display()
            );
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.into()),
    }
    Ok(read(file)?)
}
