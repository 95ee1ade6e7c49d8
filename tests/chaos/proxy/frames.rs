//! Splits PostgreSQL's protocol into messages, so that the proxy can stop between two of them.

/// One message with its header.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// The message type; 0 for the first message of a client, which has none.
    pub kind: u8,
    pub bytes: Vec<u8>,
}

impl Frame {
    /// The text of a simple query.
    pub fn query(&self) -> Option<&str> {
        let text = self.bytes.get(5..self.bytes.len().checked_sub(1)?)?;
        (self.kind == b'Q').then(|| std::str::from_utf8(text).ok())?
    }

    /// The name and the text of a prepared statement.
    pub fn parsed(&self) -> Option<(&[u8], &[u8])> {
        let mut texts = self.bytes.get(5..)?.split(|byte| *byte == 0);
        (self.kind == b'P').then(|| Some((texts.next()?, texts.next()?)))?
    }

    /// The name of the statement to execute.
    pub fn bound(&self) -> Option<&[u8]> {
        let mut texts = self.bytes.get(5..)?.split(|byte| *byte == 0);
        (self.kind == b'B').then(|| texts.nth(1))?
    }

    /// Whether it reports an error or a rollback.
    pub fn is_failure(&self) -> bool {
        self.kind == b'E' || self.kind == b'C' && self.bytes[5..].starts_with(b"ROLLBACK")
    }

    /// Whether the client waits for a response after it: a simple query, or the end of an extended one.
    pub fn ends_a_round(&self) -> bool {
        matches!(self.kind, b'Q' | b'S')
    }
}

/// Splits a stream of bytes into messages.
#[derive(Debug)]
pub struct Frames {
    rest: Vec<u8>,
    /// A client's first message has no type.
    expects_start: bool,
}

impl Frames {
    pub fn of_client() -> Self {
        Self { rest: Vec::new(), expects_start: true }
    }

    pub fn of_server() -> Self {
        Self { rest: Vec::new(), expects_start: false }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
    }

    /// The next complete message.
    pub fn next(&mut self) -> Option<Frame> {
        let head = usize::from(!self.expects_start);
        let length: [u8; 4] = self.rest.get(head..head + 4)?.try_into().ok()?;
        let whole = head + u32::from_be_bytes(length) as usize;
        if self.rest.len() < whole {
            return None;
        }
        let kind = if self.expects_start { 0 } else { self.rest[0] };
        self.expects_start = false;
        let rest = self.rest.split_off(whole);
        Some(Frame { kind, bytes: std::mem::replace(&mut self.rest, rest) })
    }
}

#[test]
fn messages_are_found_regardless_of_how_bytes_are_split() {
    let start = [0, 0, 0, 8, 0, 3, 0, 0];
    let commit = b"Q\x00\x00\x00\x0bCOMMIT\0";
    let sync = b"S\x00\x00\x00\x04";
    let all = [&start[..], commit, sync].concat();
    for size in 1..all.len() {
        let mut frames = Frames::of_client();
        let mut found = Vec::new();
        for bytes in all.chunks(size) {
            frames.push(bytes);
            found.extend(std::iter::from_fn(|| frames.next()));
        }
        assert_eq!(found.iter().map(|frame| frame.kind).collect::<Vec<_>>(), [0, b'Q', b'S']);
        assert_eq!(found[1].query(), Some("COMMIT"));
        assert_eq!(found.iter().flat_map(|frame| frame.bytes.clone()).collect::<Vec<_>>(), all);
        assert!(found[1].ends_a_round() && found[2].ends_a_round() && !found[0].ends_a_round());
    }
}
