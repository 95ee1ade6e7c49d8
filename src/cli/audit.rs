//! `cloudapi audit …`: the trail outside of the server, and what only the operator may do to it.

mod redact;
mod verify;

use std::sync::Arc;

use anyhow::bail;
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};
use serde_json::json;
use tokio::sync::Semaphore;

use super::{
    admin::by_operator,
    database::{ADMIN_CONNECTIONS, Database},
    output::{self, print},
    server_key,
};
use crate::{
    audit::{
        checkpoint::Signer,
        export::{Export, Exporter},
        model::DEPLOYMENT,
        reads, repo,
        view::Format,
    },
    base::{
        action::Action,
        clock::Clock,
        hex,
        id::{AuditId, ProjectId},
    },
    config::Settings,
};

pub use verify::Verify;

/// What comes before the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410 §4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Check an export, without a server or a database. Exits with 0 when it is intact, 1 when it is not, and 2 when it
    /// could not be checked.
    Verify(Verify),
    /// Print the whole trail of a project, or of what belongs to no project, such as sign-ins and these commands.
    Export {
        #[command(flatten)]
        whose: Whose,
        /// How it is written: ndjson can be verified, csv is for reading.
        #[arg(long, value_name = "FORMAT", default_value = "ndjson")]
        format: Format,
    },
    /// Print the public key that checkpoints of this deployment can be checked with.
    Key {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Delete what entries say, for good. Their places in the chain stay, and who did this and why is written down.
    Redact {
        #[command(flatten)]
        whose: Whose,
        /// The entries' ids.
        #[arg(required = true, value_name = "AUD_ID")]
        entries: Vec<AuditId>,
        /// Why. Everybody who may read the trail sees it, so it should name nobody.
        #[arg(long)]
        reason: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Whose trail.
#[derive(Clone, Copy, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Whose {
    /// The project's id; of one that was deleted, too.
    #[arg(long)]
    project: Option<ProjectId>,
    /// What belongs to no project.
    #[arg(long)]
    deployment: bool,
}

impl Whose {
    fn chain(self) -> ProjectId {
        self.project.unwrap_or(DEPLOYMENT)
    }
}

/// Runs one of the commands.
pub async fn run(settings: Settings, command: Audit) -> anyhow::Result<()> {
    match command {
        Audit::Verify(verify) => verify.run(),
        Audit::Key { json } => {
            let signer = signer(&settings)?;
            print(&key(&signer, json))
        }
        Audit::Export { whose, format } => {
            let signer = signer(&settings)?;
            on_database(&settings, async |database| export(database, signer, whose.chain(), format).await).await
        }
        Audit::Redact { whose, entries, reason, json } => {
            let signer = signer(&settings)?;
            let redacted = on_database(&settings, async |database| {
                redact::run(database, signer, whose.chain(), &entries, &reason, json).await
            });
            print(&redacted.await?)
        }
    }
}

async fn on_database<T>(
    settings: &Settings,
    work: impl AsyncFnOnce(&Database) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let database = Database::open(settings, ADMIN_CONNECTIONS).await?;
    let outcome = work(&database).await;
    let closed = database.close().await;
    let done = outcome?;
    closed.map(|()| done)
}

fn signer(settings: &Settings) -> anyhow::Result<Arc<Signer>> {
    Ok(Arc::new(Signer::new(&server_key::existing(settings)?)))
}

fn key(signer: &Signer, json: bool) -> String {
    let key = signer.public_key();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----",
        STANDARD.encode([&SPKI[..], &key[..]].concat())
    );
    let hex = hex::encode(&key);
    if json { json!({ "public_key": hex, "pem": format!("{pem}\n") }).to_string() } else { format!("{hex}\n{pem}") }
}

async fn export(database: &Database, signer: Arc<Signer>, chain: ProjectId, format: Format) -> anyhow::Result<()> {
    let clock = Clock::system();
    let mut db = database.pool.acquire().await?;
    require_chain(&mut db, chain).await?;
    let changes = [("format".to_owned(), format.as_str().into())].into_iter().collect();
    let told = reads::by(&by_operator(), chain, Action::AuditExported, changes, clock.now());
    repo::stage(&mut db, &[(chain, told)]).await?;
    drop(db);
    let readers = Arc::new(Semaphore::new(1));
    let exporter = Exporter { db: database.pool.clone(), readers, signer, clock };
    let mut export = Export::begin(exporter, chain, format).await?;
    while let Some(piece) = export.next().await? {
        output::write(&piece)?;
    }
    Ok(())
}

/// A mistyped project has no trail, which must not look like one without entries.
async fn require_chain(db: &mut sqlx::PgConnection, chain: ProjectId) -> anyhow::Result<()> {
    if chain != DEPLOYMENT && !crate::audit::trail::is_known(db, chain).await? {
        bail!("there is no trail of a project '{chain}'; name its id, such as proj_8f2c4");
    }
    Ok(())
}
