//! `cloudapi usage …`: billing reports, and recovery of the counts of lost servers.

use std::{fmt::Write, path::PathBuf, sync::Arc};

use anyhow::{Context, bail};
use clap::Subcommand;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    admin::by_operator,
    database::{ADMIN_CONNECTIONS, Database},
    support::output::print,
};
use crate::{
    api::usage::{
        counting::{
            flush,
            journal::{
                Journal,
                file::{self, OpenError},
            },
        },
        ledger::{self, OpenJournal},
        model::PeriodStatus,
        repo,
    },
    auth::revocation::node::Node,
    base::{
        action::Action,
        runtime::{clock::Clock, period::Period},
    },
    server::config::Settings,
    tx::{Change, Writes},
};

#[derive(Debug, Subcommand)]
pub enum Usage {
    /// Print a month's usage of every project.
    Report {
        /// UTC month, such as 2026-03. [default: the previous month]
        month: Option<Period>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Count the requests in the journal of a server that will not start again. Importing it again counts nothing
    /// twice.
    Import {
        /// The journal: a file that ends in .journal, from the folder 'usage' of the server's data directory.
        file: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the journals that can still report requests, oldest report first.
    Journals {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Mark a journal as lost, so that reports no longer wait for it.
    Forget {
        /// ID of the journal, as 'cloudapi usage journals' prints it.
        journal: Uuid,
    },
}

/// Runs a `usage` command.
pub async fn run(settings: Settings, command: Usage) -> anyhow::Result<()> {
    let database = Database::open(&settings, ADMIN_CONNECTIONS).await?;
    let outcome = async {
        let writes = Writes::new(Node::new(database.pool.clone(), false), Clock::system());
        let mut db = database.pool.acquire().await?;
        match command {
            Usage::Report { month, json } => report(&mut db, month, json).await,
            Usage::Import { file, json } => import(&mut db, &writes, file, json).await,
            Usage::Journals { json } => journals(&mut db, json).await,
            Usage::Forget { journal } => forget(&writes, journal).await,
        }
    }
    .await;
    let closed = database.close().await;
    print(&outcome?)?;
    closed
}

async fn report(db: &mut PgConnection, month: Option<Period>, json: bool) -> anyhow::Result<String> {
    let now = Clock::system().now();
    let current = Period::of(now.date());
    let period = month.unwrap_or(current.previous());
    if period > current {
        bail!("{period} has not begun; use {current} or an earlier month");
    }
    let as_of = repo::as_of(db, now).await?;
    let silent = silent_in(db, period).await?;
    let bills = repo::list_project_usage(db, period).await?;
    if json {
        let report = json!({ "period": period, "as_of": as_of, "silent_journals": silent, "projects": bills });
        return Ok(report.to_string());
    }
    let mut text = format!("{period}, complete up to {as_of}\n");
    let row = |text: &mut String, cells: [&str; 7]| {
        let [id, status, requests, included, overage, late, name] = cells;
        writeln!(text, "{id:<38} {status:<6} {requests:>12} {included:>12} {overage:>12} {late:>8}  {name}")
    };
    row(&mut text, ["project", "status", "requests", "included", "overage", "late", "name"])?;
    for bill in bills {
        let usage = bill.usage;
        let status = if usage.status == PeriodStatus::Final { "final" } else { "open" };
        let included = usage.included.map_or_else(|| "unlimited".to_owned(), |included| included.to_string());
        let late: i64 = usage.adjustments.iter().map(|adjustment| adjustment.requests).sum();
        let cells = [usage.requests, usage.overage, late].map(|number| number.to_string());
        let (id, name) = (bill.project_id.to_string(), bill.name.unwrap_or_else(|| "(deleted)".into()));
        row(&mut text, [&id, status, &cells[0], &included, &cells[1], &cells[2], &name])?;
    }
    for OpenJournal { journal, flushed_at, .. } in silent {
        writeln!(
            text,
            "Journal {journal} last reported at {flushed_at}: start its server or import its file; requests that it counted since are missing."
        )?;
    }
    Ok(text.trim_end().to_owned())
}

/// Journals that may hold unreported requests of `period`.
async fn silent_in(db: &mut PgConnection, period: Period) -> anyhow::Result<Vec<OpenJournal>> {
    let (now, patience) = (Clock::system().now(), std::time::Duration::from_secs(60));
    let limit = period.end().min(now.minus(patience));
    Ok(ledger::stale_journals(db, limit).await?)
}

async fn import(db: &mut PgConnection, writes: &Writes, path: PathBuf, json: bool) -> anyhow::Result<String> {
    let database = ledger::database_id(db).await?;
    let shown = path.display();
    let opened = file::read(&path, database).map_err(|reason| match reason {
        OpenError::Locked => anyhow::anyhow!(
            "{shown} is in use: a running server counts in it and reports these requests; do not import it"
        ),
        OpenError::OtherDatabase => anyhow::anyhow!(
            "{shown} belongs to another database; set DATABASE_URL to the database that its server used"
        ),
        reason => anyhow::anyhow!("{shown} cannot be imported: {reason}"),
    })?;
    let journal = Journal::in_file(opened);
    let counted = journal.changed_since(&[]);
    let requests: u64 =
        counted.iter().filter(|change| change.counter.project.is_some()).map(|change| change.now.count).sum();
    flush::import(&journal, db, &Clock::system())
        .await
        .context("the import failed and nothing is lost; import the file again")?;
    let (id, torn) = (journal.id, journal.torn);
    let change = Change::for_deployment(Action::UsageImported).with("journal", id).with("requests", requests);
    writes.record_action(&by_operator(), change).await?;
    if json {
        return Ok(json!({ "journal": id, "requests": requests, "damaged_counters": torn }).to_string());
    }
    let mut text = format!(
        "All {requests} requests of journal {id} are counted, each of them once. The file is no longer needed."
    );
    if torn > 0 {
        write!(text, "\n{torn} of its counters are damaged, as after a power failure, and could not be counted.")?;
    }
    Ok(text)
}

async fn journals(db: &mut PgConnection, json: bool) -> anyhow::Result<String> {
    let open = ledger::open_journals(db).await?;
    if json {
        return Ok(serde_json::to_string(&open)?);
    }
    if open.is_empty() {
        return Ok("No journal is open: all requests are reported.".to_owned());
    }
    let mut text = format!("{:<36}  {:<24}  {:<24}", "journal", "opened at", "reported up to");
    for OpenJournal { journal, opened_at, flushed_at } in open {
        write!(text, "\n{journal}  {opened_at}  {flushed_at}")?;
    }
    Ok(text)
}

async fn forget(writes: &Writes, journal: Uuid) -> anyhow::Result<String> {
    let mut tx = writes.begin(&Arc::new(by_operator())).await?;
    if !ledger::close(tx.db(), journal, Clock::system().now()).await? {
        bail!("there is no journal {journal}; 'cloudapi usage journals' lists the open journals");
    }
    tx.commit(Change::for_deployment(Action::UsageForgotten).with("journal", journal), ()).await?;
    Ok(format!(
        "Reports no longer wait for journal {journal}. If its file turns up, 'cloudapi usage import' still counts it."
    ))
}
