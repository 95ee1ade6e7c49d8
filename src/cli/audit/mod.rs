//! `cloudapi audit …`: audit trail commands that need no server, or that only the operator may run.

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
    server_key,
    support::output::{self, print},
};
use crate::{
    api::audit_logs::export::{Export, Exporter},
    audit::{chain::checkpoint::Signer, model::DEPLOYMENT, read_counts, repo, view::Format},
    base::{
        action::Action,
        hex,
        id::{AuditId, ProjectId},
        runtime::clock::Clock,
    },
    server::config::Settings,
};

pub use verify::Verify;

/// DER prefix of a SubjectPublicKeyInfo with an Ed25519 key (RFC 8410 §4). The 32 bytes of the key follow.
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Verify an export, without a server or a database.
    ///
    /// Exits with 0 if it is intact, 1 if it is not, and 2 if it could not be verified.
    Verify(Verify),
    /// Print the whole audit trail of a project, or of the deployment: everything outside a project, such as sign-ins
    /// and operator commands.
    Export {
        #[command(flatten)]
        selector: ChainSelector,
        /// Output format: ndjson can be verified, csv is for spreadsheets.
        #[arg(long, value_name = "FORMAT", default_value = "ndjson")]
        format: Format,
    },
    /// Print the public key that verifies the checkpoints of this deployment.
    Key {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Permanently delete the content of audit entries.
    ///
    /// Their positions and hashes stay in the chain, and the trail records who redacted them and why.
    Redact {
        #[command(flatten)]
        selector: ChainSelector,
        /// IDs of the entries.
        #[arg(required = true, value_name = "AUD_ID")]
        entries: Vec<AuditId>,
        /// Reason, 1 to 500 characters. Everyone who can read the trail sees it, so it must not contain personal data.
        #[arg(long)]
        reason: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Selects a trail.
#[derive(Clone, Copy, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ChainSelector {
    /// ID of the project. Deleted projects are allowed.
    #[arg(long)]
    project: Option<ProjectId>,
    /// Select the trail of everything outside a project.
    #[arg(long)]
    deployment: bool,
}

impl ChainSelector {
    fn chain(self) -> ProjectId {
        self.project.unwrap_or(DEPLOYMENT)
    }
}

/// Runs an `audit` command.
pub async fn run(settings: Settings, command: Audit) -> anyhow::Result<()> {
    match command {
        Audit::Verify(verify) => verify.run(),
        Audit::Key { json } => {
            let signer = signer(&settings)?;
            print(&key(&signer, json))
        }
        Audit::Export { selector, format } => {
            let signer = signer(&settings)?;
            on_database(&settings, async |database| export(database, signer, selector.chain(), format).await).await
        }
        Audit::Redact { selector, entries, reason, json } => {
            let signer = signer(&settings)?;
            let redacted = on_database(&settings, async |database| {
                redact::run(database, signer, selector.chain(), &entries, &reason, json).await
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
    let entry = read_counts::draft(&by_operator(), chain, Action::AuditExported, changes, clock.now());
    repo::stage(&mut db, &[(chain, entry)]).await?;
    drop(db);
    let readers = Arc::new(Semaphore::new(1));
    let exporter = Exporter { db: database.pool.clone(), readers, signer, clock };
    let mut export = Export::begin(exporter, chain, format).await?;
    while let Some(piece) = export.next().await? {
        output::write(&piece)?;
    }
    Ok(())
}

/// Fails for a project that has no trail, so that a mistyped ID is not reported as an empty trail.
async fn require_chain(db: &mut sqlx::PgConnection, chain: ProjectId) -> anyhow::Result<()> {
    if chain != DEPLOYMENT && !crate::audit::trail::chain_exists(db, chain).await? {
        bail!("there is no trail of a project '{chain}'; use its ID, such as proj_8f2c4");
    }
    Ok(())
}
