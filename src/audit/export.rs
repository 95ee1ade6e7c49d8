//! Exports a whole trail in pieces: for clients, at any reading speed, and for the operator.

use std::{sync::Arc, time::Duration};

use axum::body::Bytes;

use tokio::{sync::Semaphore, time::timeout};

use super::{
    chain::GENESIS,
    checkpoint::{Signer, Statement},
    csv,
    line::{self, SignedText},
    trail::{self, Start},
    view::{Entry, Format, StoredEntry},
};
use crate::{
    base::{
        clock::Clock,
        error::{Code, Error, Result},
        id::{AuditId, ProjectId},
    },
    db::Pool,
    state::App,
};

/// Number of entries per read.
const PIECE: i64 = 250;
/// Deadline for one read, including the wait for a reader permit: a lost response must not hold a permit forever.
const READ_TIME: Duration = Duration::from_secs(60);

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
    pub fn of(app: &App) -> Self {
        Self {
            db: app.db.clone(),
            readers: Arc::clone(&app.export_readers),
            signer: Arc::clone(&app.signer),
            clock: app.clock.clone(),
        }
    }
}

/// Export in progress. Between two pieces it holds neither a connection nor a transaction.
#[derive(Debug)]
pub struct Export {
    exporter: Exporter,
    chain: ProjectId,
    format: Format,
    start: Start,
    /// Number and ID of the last entry that was written.
    last: (i64, AuditId),
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Begin,
    Entries,
    Done,
}

impl Export {
    /// Begins to export a chain up to its current end.
    pub async fn begin(exporter: Exporter, chain: ProjectId, format: Format) -> Result<Self> {
        let start = trail::start(&mut *exporter.db.acquire().await?, chain).await?;
        let last = (start.removed_up_to(), AuditId::FIRST);
        Ok(Self { exporter, chain, format, start, last, step: Step::Begin })
    }

    /// Project of the exported chain.
    pub fn chain(&self) -> ProjectId {
        self.chain
    }

    /// Format of the export.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Returns the next piece, or `None` after the last one.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.step == Step::Done {
            return Ok(None);
        }
        let mut piece = Vec::new();
        let rows = self.read().await?;
        if self.step == Step::Begin {
            self.write_beginning(&mut piece);
            self.step = Step::Entries;
        }
        let mut is_last = rows.is_empty();
        for entry in rows {
            if entry.seq > self.start.seq {
                is_last = true;
                break;
            }
            self.last = (entry.seq, entry.id);
            self.write(entry, &mut piece)?;
        }
        // Fewer entries than the chain records, if somebody removed some from the database. Verifying the export detects
        // this.
        if is_last || self.last.0 >= self.start.seq {
            self.write_end(&mut piece)?;
            self.step = Step::Done;
        }
        Ok(Some(piece.into()))
    }

    async fn read(&mut self) -> Result<Vec<StoredEntry>> {
        let late = |_| Err(Error::new(Code::Timeout, "The database did not respond in time; export again"));
        timeout(READ_TIME, self.read_piece()).await.unwrap_or_else(late)
    }

    async fn read_piece(&mut self) -> Result<Vec<StoredEntry>> {
        let _reader = self.exporter.readers.acquire().await.map_err(Error::internal)?;
        let mut db = self.exporter.db.acquire().await?;
        loop {
            if self.last.0 >= self.start.seq {
                return Ok(Vec::new());
            }
            let rows = trail::after(&mut db, self.chain, self.last.1, PIECE).await?;
            let removed_up_to = rows.first().map_or(0, |row| row.removed_up_to);
            if removed_up_to > self.last.0 {
                if self.step == Step::Begin {
                    self.start = trail::start(&mut db, self.chain).await?;
                    self.last.0 = self.start.removed_up_to();
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
                let later = trail::start(&mut db, self.chain).await?;
                (self.start.seq, self.start.hash) = (later.seq, later.hash);
            }
            return Ok(rows.into_iter().map(|row| row.entry).collect());
        }
    }

    fn write_beginning(&self, piece: &mut Vec<u8>) {
        match (self.format, self.start.anchor(self.chain)) {
            (Format::Csv, _) => piece.extend_from_slice(csv::HEADER.as_bytes()),
            (Format::Ndjson, Some(anchor)) => push_line(piece, &line::anchor(anchor)),
            (Format::Ndjson, None) => {}
        }
    }

    fn write(&self, entry: StoredEntry, piece: &mut Vec<u8>) -> Result<()> {
        match self.format {
            Format::Csv => csv::write(&Entry::of(entry)?, piece),
            Format::Ndjson => push_line(piece, &line::stored(&entry)),
        }
        Ok(())
    }

    /// Signs the end that the chain records, not the end that was found, so that a difference between the two is
    /// detected.
    fn write_end(&self, piece: &mut Vec<u8>) -> Result<()> {
        if self.format == Format::Csv {
            return Ok(());
        }
        let Exporter { signer, clock, .. } = &self.exporter;
        let hash = self.start.hash.as_deref().map_or(Ok(GENESIS), TryInto::try_into).map_err(Error::internal)?;
        let signed = signer.sign(Statement::Checkpoint, self.chain, self.start.seq, hash, clock.now());
        push_line(piece, &line::checkpoint(SignedText::of(&signed)));
        Ok(())
    }
}

fn push_line(piece: &mut Vec<u8>, line: &[u8]) {
    piece.extend_from_slice(line);
    piece.push(b'\n');
}
