//! Several servers on one database.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use cloudapi::base::server_key::ServerKey;

use super::{Result, Server};

/// A deployment, whose servers have the same server key.
pub struct Deployment {
    folder: PathBuf,
    database: String,
    key: String,
}

impl Deployment {
    /// Creates the server key in `folder`, which also has the folders of the servers.
    pub fn new(folder: &Path, database: &str) -> Result<Self> {
        let key = folder.join("secret.key");
        fs::write(&key, ServerKey::generate().to_text())?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
        let key = key.to_str().ok_or("a path that is not text")?.to_owned();
        Ok(Self { folder: folder.to_owned(), database: database.to_owned(), key })
    }

    /// Starts the server with this name.
    pub fn start(&self, name: &str) -> Result<Server> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder)?;
        Server::cloudapi(&folder, &self.database, &[("CLOUDAPI_SECRET_KEY_FILE", &self.key)])
    }
}
