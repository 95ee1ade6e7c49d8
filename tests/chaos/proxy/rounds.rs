//! Parses a server's requests into round trips: the number of each in its transaction, whether it commits, and whether
//! it flushes usage.

use std::{collections::HashMap, mem::take};

use super::frames::Frame;

/// Text that identifies a statement that flushes usage. Each kind alternates on its own in being sent twice: if they
/// shared one turn, a server that executes one after the other might never receive the response to the second.
pub const WRITES_USAGE: [&str; 3] = ["into usage_node", "select flush_usage_node(", "select flush_late_usage_node("];

/// Text that identifies a prepared statement that is a whole write, and its own transaction.
const WHOLE_WRITE: &str = "claim_idempotency(";

/// How the sealer's transactions begin, as opposed to those of a client's write.
const SEALS: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// A request of a server that waits for its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// Its number in its transaction, where BEGIN is 0. None outside of a transaction.
    pub number: Option<usize>,
    /// Whether it is the COMMIT of a transaction.
    pub commits: bool,
    /// If its response makes flushed usage durable, which of [`WRITES_USAGE`] flushed it.
    pub flushes: Option<usize>,
}

/// The round trips of one connection.
#[derive(Debug, Default)]
pub struct Rounds {
    /// The number of the latest round trip of the open transaction.
    transaction: Option<usize>,
    /// The uncommitted statement that flushes usage, if any.
    writes_usage: Option<usize>,
    /// Prepared statements by name. The text is sent only once.
    statements: HashMap<Vec<u8>, Prepared>,
    /// Whether this round trip prepares a whole write, or executes one.
    prepares_write: bool,
    does_write: bool,
}

/// A prepared statement.
#[derive(Clone, Copy, Debug)]
struct Prepared {
    /// Which of [`WRITES_USAGE`] it is, if any.
    writes_usage: Option<usize>,
    is_whole_write: bool,
}

impl Rounds {
    /// Processes a message. Returns the round trip that it ends, if any.
    pub fn end(&mut self, frame: &Frame) -> Option<Round> {
        match frame.kind {
            b'P' => {
                let (name, sql) = frame.parsed()?;
                let is_whole_write = String::from_utf8_lossy(sql).contains(WHOLE_WRITE);
                self.prepares_write |= is_whole_write;
                self.statements.insert(name.to_vec(), Prepared { writes_usage: writes_usage(sql), is_whole_write });
            }
            b'B' => {
                let bound = self.statements.get(frame.bound()?)?;
                self.writes_usage = self.writes_usage.or(bound.writes_usage);
                self.does_write |= bound.is_whole_write;
            }
            _ => {}
        }
        if !frame.ends_a_round() {
            return None;
        }
        let query = frame.query().unwrap_or_default().trim();
        self.writes_usage = self.writes_usage.or_else(|| writes_usage(query.as_bytes()));
        let is = |word: &str| query.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
        // Statements before and after the query can travel with it.
        let (prepares, does) = (take(&mut self.prepares_write), take(&mut self.does_write));
        let begins = is("BEGIN") || (self.transaction.is_none() && (prepares || does));
        let number = match self.transaction {
            // Not the write that a trap waits for.
            _ if is(SEALS) => None,
            _ if begins => Some(0),
            latest => latest.map(|round| round + 1),
        };
        let commits = number.is_some() && (query.ends_with("COMMIT") || does);
        self.transaction = number.filter(|_| !commits && !is("ROLLBACK"));
        // Outside of a transaction, each round trip is its own transaction.
        let flushes = self.writes_usage.filter(|_| commits || number.is_none());
        self.writes_usage = self.writes_usage.filter(|_| self.transaction.is_some());
        Some(Round { number, commits, flushes })
    }
}

fn writes_usage(sql: &[u8]) -> Option<usize> {
    let sql = String::from_utf8_lossy(sql).to_ascii_lowercase();
    WRITES_USAGE.iter().position(|write| sql.contains(write))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, body: &[u8]) -> Frame {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        Frame { kind, bytes: [&[kind][..], &length, body].concat() }
    }

    fn ends(frames: &[Frame]) -> Vec<(Option<usize>, bool, Option<usize>)> {
        let mut rounds = Rounds::default();
        let ended = frames.iter().filter_map(|frame| rounds.end(frame));
        ended.map(|Round { number, commits, flushes }| (number, commits, flushes)).collect()
    }

    #[test]
    fn single_statement_write_commits_with_its_statement() {
        let (sync, bind) = (|| frame(b'S', b""), || frame(b'B', b"\0s1\0"));
        let prepare = frame(b'P', b"s1\0SELECT keep_answer(issue_token(claim_idempotency($1)))\0\0\0");
        let found = ends(&[prepare, sync(), bind(), sync(), bind(), sync(), sync()]);
        assert_eq!(found, [(Some(0), false, None), (Some(1), true, None), (Some(0), true, None), (None, false, None)]);
    }

    #[test]
    fn flush_is_the_round_trip_that_commits_usage_even_if_its_statement_was_prepared_earlier() {
        let query = |text: &str| frame(b'Q', format!("{text}\0").as_bytes());
        let sync = || frame(b'S', b"");
        let prepare = || frame(b'P', b"s1\0INSERT INTO usage_node VALUES ($1)\0\0\0");
        let (bind, bind_other) = (|| frame(b'B', b"\0s1\0"), || frame(b'B', b"\0s2\0"));
        let found = ends(&[
            query("BEGIN"),
            prepare(),
            sync(),
            bind(),
            sync(),
            query("COMMIT"),
            bind_other(),
            sync(),
            // Outside of a transaction.
            bind(),
            sync(),
            // Rolled back.
            query("BEGIN; SELECT 1"),
            bind(),
            sync(),
            query("ROLLBACK"),
            sync(),
            query("BEGIN ISOLATION LEVEL READ COMMITTED"),
            sync(),
            query("COMMIT"),
            query("BEGIN; SELECT flush_late_usage_node(1); COMMIT"),
            query("SELECT n FROM usage_node"),
            query("SELECT flush_usage_node(1)"),
        ]);
        let expected = [
            (Some(0), false, None),
            (Some(1), false, None),
            (Some(2), false, None),
            (Some(3), true, Some(0)),
            (None, false, None),
            (None, false, Some(0)),
            (Some(0), false, None),
            (Some(1), false, None),
            (Some(2), false, None),
            (None, false, None),
            (None, false, None),
            (None, false, None),
            (None, false, None),
            (Some(0), true, Some(2)),
            (None, false, None),
            (None, false, Some(1)),
        ];
        assert_eq!(found, expected);
    }
}
