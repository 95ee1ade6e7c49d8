//! Exports a whole trail in chunks: for clients, at any reading speed, and for the operator.

use std::{sync::Arc, time::Duration};

use axum::body::Bytes;

use tokio::{sync::Semaphore, time::timeout};

use super::csv;
use crate::{
    api::audit_logs::AuditContext,
    audit::{
        chain::{
            GENESIS,
            checkpoint::{Signer, Statement},
            line::{self, SignedText},
        },
        trail::{self, ExportRange},
        view::{Entry, Format, StoredEntry},
    },
    base::{
        error::{Code, Error, Result},
        id::{AuditId, ProjectId},
        runtime::clock::Clock,
    },
    db::Pool,
};

/// Number of entries per read.
const CHUNK_ENTRIES: i64 = 250;
/// Deadline for one read, including the wait for a reader permit: a lost response must not hold a permit forever.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Dependencies of an export.
#[derive(Clone, Debug)]
pub struct Exporter {
    /// Database.
    pub db: Pool,
    /// Permits for concurrent readers.
    pub readers: Arc<Semaphore>,
    /// Signs the end of an export.
    pub signer: Arc<Signer>,
    /// Clock.
    pub clock: Clock,
}

impl Exporter {
    /// Dependencies of a server's exports.
    pub fn from_app(context: &AuditContext) -> Self {
        Self {
            db: context.db.clone(),
            readers: Arc::clone(&context.export_readers),
            signer: Arc::clone(&context.signer),
            clock: context.clock.clone(),
        }
    }
}

/// Export in progress. Between two chunks it holds neither a connection nor a transaction.
#[derive(Debug)]
pub struct Export {
    exporter: Exporter,
    chain: ProjectId,
    format: Format,
    range: ExportRange,
    /// Number and ID of the last entry that was written.
    last: (i64, AuditId),
    state: ExportState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExportState {
    Begin,
    Entries,
    Done,
}

impl Export {
    /// Begins to export a chain up to its current end.
    pub async fn begin(exporter: Exporter, chain: ProjectId, format: Format) -> Result<Self> {
        let range = trail::export_range(&mut *exporter.db.acquire().await?, chain).await?;
        let last = (range.removed_up_to(), AuditId::FIRST);
        Ok(Self { exporter, chain, format, range, last, state: ExportState::Begin })
    }

    /// Project of the exported chain.
    pub fn chain(&self) -> ProjectId {
        self.chain
    }

    /// Format of the export.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Returns the next chunk, or `None` after the last one.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.state == ExportState::Done {
            return Ok(None);
        }
        let mut chunk = Vec::new();
        let rows = self.read().await?;
        if self.state == ExportState::Begin {
            self.write_header(&mut chunk);
            self.state = ExportState::Entries;
        }
        let mut is_last = rows.is_empty();
        for entry in rows {
            if entry.seq > self.range.seq {
                is_last = true;
                break;
            }
            self.last = (entry.seq, entry.id);
            self.write(entry, &mut chunk)?;
        }
        // Fewer entries than the chain records, if somebody removed some from the database. Verifying the export
        // detects this.
        if is_last || self.last.0 >= self.range.seq {
            self.write_trailer(&mut chunk)?;
            self.state = ExportState::Done;
        }
        Ok(Some(chunk.into()))
    }

    async fn read(&mut self) -> Result<Vec<StoredEntry>> {
        let timed_out = |_| Err(Error::new(Code::Timeout, "The database did not respond in time; export again"));
        timeout(READ_TIMEOUT, self.read_chunk()).await.unwrap_or_else(timed_out)
    }

    async fn read_chunk(&mut self) -> Result<Vec<StoredEntry>> {
        let _reader = self.exporter.readers.acquire().await.map_err(Error::internal)?;
        let mut db = self.exporter.db.acquire().await?;
        loop {
            if self.last.0 >= self.range.seq {
                return Ok(Vec::new());
            }
            let rows = trail::after(&mut db, self.chain, self.last.1, CHUNK_ENTRIES).await?;
            let removed_up_to = rows.first().map_or(0, |row| row.removed_up_to);
            if removed_up_to > self.last.0 {
                if self.state == ExportState::Begin {
                    self.range = trail::export_range(&mut db, self.chain).await?;
                    self.last.0 = self.range.removed_up_to();
                    continue;
                }
                return Err(Error::new(
                    Code::Internal,
                    "The retention period of entries that were not exported yet has ended; export again",
                ));
            }
            // The entry that redacted another comes after it. Extend the export to the current end, so that it contains
            // both.
            if rows.iter().any(|row| row.entry.payload.is_none()) {
                let latest = trail::export_range(&mut db, self.chain).await?;
                (self.range.seq, self.range.hash) = (latest.seq, latest.hash);
            }
            return Ok(rows.into_iter().map(|row| row.entry).collect());
        }
    }

    fn write_header(&self, chunk: &mut Vec<u8>) {
        match (self.format, self.range.anchor(self.chain)) {
            (Format::Csv, _) => chunk.extend_from_slice(csv::HEADER.as_bytes()),
            (Format::Ndjson, Some(anchor)) => push_line(chunk, &line::anchor(anchor)),
            (Format::Ndjson, None) => {}
        }
    }

    fn write(&self, entry: StoredEntry, chunk: &mut Vec<u8>) -> Result<()> {
        match self.format {
            Format::Csv => csv::write(&Entry::from_stored(entry)?, chunk),
            Format::Ndjson => push_line(chunk, &line::entry(&entry)),
        }
        Ok(())
    }

    /// Signs the end that the chain records, not the end that was found, so that a difference between the two is
    /// detected.
    fn write_trailer(&self, chunk: &mut Vec<u8>) -> Result<()> {
        if self.format == Format::Csv {
            return Ok(());
        }
        let Exporter { signer, clock, .. } = &self.exporter;
        let hash = self.range.hash.as_deref().map_or(Ok(GENESIS), TryInto::try_into).map_err(Error::internal)?;
        let signed = signer.sign(Statement::Checkpoint, self.chain, self.range.seq, hash, clock.now());
        push_line(chunk, &line::checkpoint(SignedText::from_statement(&signed)));
        Ok(())
    }
}

fn push_line(chunk: &mut Vec<u8>, line: &[u8]) {
    chunk.extend_from_slice(line);
    chunk.push(b'\n');
}
