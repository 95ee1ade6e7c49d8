//! What a server asks, read as rounds: which of its transaction each one is, whether it commits, and whether it
//! writes down what was counted.

use std::collections::HashMap;

use super::frames::Frame;

/// What stands in a statement that writes usage. They take turns in being sent twice, each by itself: were one the
/// turn of the other, a server that does one after the other might never hear of the second.
pub const WRITES_USAGE: [&str; 3] = ["into usage_node", "select flush_usage_node(", "select flush_late_usage_node("];

/// How the transactions begin in which the audit trail is sealed, and not a client's write done.
const SEALS: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// Something that a server has asked, and waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// Which of its transaction, counted from BEGIN, which is 0; none outside of one.
    pub number: Option<usize>,
    /// Whether it is a transaction's COMMIT.
    pub commits: bool,
    /// Whether usage lasts that was written, once it is answered; and which of [`WRITES_USAGE`] did that.
    pub flushes: Option<usize>,
}

/// The rounds of one connection.
#[derive(Debug, Default)]
pub struct Rounds {
    /// The latest round of the open transaction.
    transaction: Option<usize>,
    /// What of all that is not yet committed writes usage.
    writes_usage: Option<usize>,
    /// By name, how a prepared statement writes usage: it is sent once, and then only named.
    statements: HashMap<Vec<u8>, Option<usize>>,
}

impl Rounds {
    /// The round that a message ends.
    pub fn end(&mut self, frame: &Frame) -> Option<Round> {
        match frame.kind {
            b'P' => {
                let (name, sql) = frame.parsed()?;
                self.statements.insert(name.to_vec(), writes_usage(sql));
            }
            b'B' => {
                let bound = self.statements.get(frame.bound()?);
                self.writes_usage = self.writes_usage.or(bound.copied().flatten());
            }
            _ => {}
        }
        if !frame.ends_a_round() {
            return None;
        }
        let query = frame.query().unwrap_or_default().trim();
        self.writes_usage = self.writes_usage.or_else(|| writes_usage(query.as_bytes()));
        let is = |word: &str| query.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
        // What is to be done first or last travels with it.
        let number = if is(SEALS) {
            // Not the write that is waited for.
            None
        } else if is("BEGIN") {
            Some(0)
        } else {
            self.transaction.map(|round| round + 1)
        };
        let commits = number.is_some() && query.ends_with("COMMIT");
        self.transaction = number.filter(|_| !commits && !is("ROLLBACK"));
        // Outside of a transaction each round is one.
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
    fn a_flush_is_the_round_that_makes_written_usage_last_even_if_its_statement_was_sent_long_before() {
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
            // By itself.
            bind(),
            sync(),
            // Given up.
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
