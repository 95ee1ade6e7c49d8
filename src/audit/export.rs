//! A whole trail, written out a piece at a time: for a client who reads it as slowly as they like, and for the operator.

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

/// How many entries are read at a time.
const PIECE: i64 = 250;
/// How long that may take, with the wait for a place among the readers: a network that loses an answer must not keep one.
const READ_TIME: Duration = Duration::from_secs(60);

/// What exports need.
#[derive(Clone, Debug)]
pub struct Exporter {
    /// The database.
    pub db: Pool,
    /// Who may read now.
    pub readers: Arc<Semaphore>,
    /// Signs where an export ends.
    pub signer: Arc<Signer>,
    /// The time.
    pub clock: Clock,
}

impl Exporter {
    /// The one of a server.
    pub fn of(app: &App) -> Self {
        Self {
            db: app.db.clone(),
            readers: Arc::clone(&app.export_readers),
            signer: Arc::clone(&app.signer),
            clock: app.clock.clone(),
        }
    }
}

/// An export under way. Between two pieces it holds neither a connection nor a transaction.
#[derive(Debug)]
pub struct Export {
    exporter: Exporter,
    chain: ProjectId,
    format: Format,
    start: Start,
    /// The last entry that was written.
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
    /// Begins to export a chain, up to where it ends now.
    pub async fn begin(exporter: Exporter, chain: ProjectId, format: Format) -> Result<Self> {
        let start = trail::start(&mut *exporter.db.acquire().await?, chain).await?;
        let last = (start.removed_up_to(), AuditId::FIRST);
        Ok(Self { exporter, chain, format, start, last, step: Step::Begin })
    }

    /// Whose trail it is.
    pub fn chain(&self) -> ProjectId {
        self.chain
    }

    /// How it is written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The next piece; none after the last.
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
        // Fewer than the chain says that it has, if somebody has taken some away: whoever checks the file sees it.
        if is_last || self.last.0 >= self.start.seq {
            self.write_end(&mut piece)?;
            self.step = Step::Done;
        }
        Ok(Some(piece.into()))
    }

    async fn read(&mut self) -> Result<Vec<StoredEntry>> {
        let late = |_| Err(Error::new(Code::Timeout, "The database did not answer in time; export again"));
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
                    "Entries that were not exported yet were removed because of their age; export again",
                ));
            }
            // What redacted an entry comes after it, in what was there when it was found to be redacted.
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

    /// Signs what the chain says of its end, and not what was found there: should the two differ, it shows.
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
