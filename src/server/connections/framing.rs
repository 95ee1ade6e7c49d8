//! Strict parser for the boundaries of HTTP/1 requests, as RFC 9112 defines them.
//!
//! hyper accepts a bare LF as a line end, merges two equal Content-Length fields, and silently drops a Content-Length
//! next to Transfer-Encoding. A proxy in front of the server may interpret any of these differently and see another end
//! of the request (request smuggling). This parser reads each head a second time, as bytes, and refuses ambiguous ones.

use memchr::memchr;

/// hyper refuses longer heads.
const MAX_HEAD: usize = 64 * 1024;
/// First line of an HTTP/2 connection (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// Reason why a head is refused.
pub type Fault = &'static str;

const BARE_LF: Fault = "A line of the head ends with LF alone; end each with CRLF";
const TWO_LENGTHS: Fault = "The head has both Content-Length and Transfer-Encoding; send one of them";
const MANY_LENGTHS: Fault = "The head has more than one Content-Length; send one";
const BAD_CHUNK: Fault = "A chunk of the request before this one is malformed; send well-formed chunks";

/// Parser of the bytes of one connection.
#[derive(Debug)]
pub struct Framing {
    state: State,
    /// Beginning of a line whose end has not arrived.
    partial: Vec<u8>,
    head: Head,
    /// Number of complete heads.
    heads: u64,
    is_http2: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    /// Bytes until the next head.
    Body(u64),
    /// Line with a chunk's size.
    ChunkSize,
    /// Remaining bytes of a chunk, including the CRLF after it.
    Chunk(u64),
    /// Lines after the last chunk. The previous line ended with CRLF, or there is none.
    Trailers {
        after_crlf: bool,
    },
    /// Parsing is off: the connection is HTTP/2, or hyper refuses the request.
    Off,
}

/// The lines of a head or of trailers so far.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    /// Number of bytes.
    size: usize,
    /// Whether the request line has arrived.
    has_request_line: bool,
    /// Number of Content-Length fields, and the value of the last one. None if it is not a number.
    lengths: usize,
    length: Option<u64>,
    is_chunked: bool,
}

impl Framing {
    /// Creates the parser for a new connection.
    pub fn new() -> Self {
        Self { state: State::Head, partial: Vec::new(), head: Head::default(), heads: 0, is_http2: false }
    }

    /// Parses the next bytes. Returns the number (from 0) and the fault of the first head that must be refused. Parsing
    /// ends there, because the beginning of the next request is unknown.
    pub fn read(&mut self, mut bytes: &[u8]) -> Option<(u64, Fault)> {
        while !bytes.is_empty() && self.state != State::Off {
            match self.state {
                State::Body(left) | State::Chunk(left) => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = bytes.get(taken..).unwrap_or_default();
                    let left = left.saturating_sub(taken as u64);
                    self.state = match self.state {
                        State::Chunk(_) if left == 0 => State::ChunkSize,
                        State::Chunk(_) => State::Chunk(left),
                        _ if left == 0 => State::Head,
                        _ => State::Body(left),
                    };
                }
                State::Head | State::ChunkSize | State::Trailers { .. } => {
                    let line_end = memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
                    let (line, rest) = bytes.split_at_checked(line_end).unwrap_or((bytes, &[]));
                    bytes = rest;
                    self.head.size += line.len();
                    if self.head.size > MAX_HEAD {
                        self.state = State::Off;
                    } else if let Err(fault) = self.add(line) {
                        self.state = State::Off;
                        return Some((self.heads, fault));
                    }
                }
                State::Off => {}
            }
        }
        None
    }

    /// Reports whether the client is between HTTP/1 requests, as far as bytes were read.
    pub fn is_between_requests(&self) -> bool {
        self.is_http2 || (self.state == State::Head && self.head.size == 0)
    }

    /// Processes a line, or keeps a part of one. A line that arrives in one piece is not copied.
    fn add(&mut self, line: &[u8]) -> Result<(), Fault> {
        if !line.ends_with(b"\n") {
            self.partial.extend_from_slice(line);
            return Ok(());
        }
        if self.partial.is_empty() {
            return self.end_line(line);
        }
        let mut whole = std::mem::take(&mut self.partial);
        whole.extend_from_slice(line);
        self.end_line(&whole)
    }

    fn end_line(&mut self, line: &[u8]) -> Result<(), Fault> {
        let next = match self.state {
            State::Head if !self.head.has_request_line && line == HTTP2_PREFACE => {
                self.is_http2 = true;
                State::Off
            }
            State::Head if !line.ends_with(b"\r\n") => return Err(BARE_LF),
            // Empty lines before a head are skipped, as in hyper.
            State::Head if line == b"\r\n" && !self.head.has_request_line => State::Head,
            State::Head if line == b"\r\n" => {
                let next = self.head.body()?;
                self.heads += 1;
                next
            }
            State::Head => {
                if self.head.has_request_line {
                    self.head.add_field(line);
                }
                self.head.has_request_line = true;
                return Ok(());
            }
            State::ChunkSize => match chunk_size(line).ok_or(BAD_CHUNK)? {
                0 => State::Trailers { after_crlf: true },
                size => State::Chunk(size.saturating_add(2)),
            },
            // Like hyper, which ends trailers only at an empty line after a CRLF.
            State::Trailers { after_crlf: true } if line == b"\r\n" => State::Head,
            State::Trailers { .. } => {
                self.state = State::Trailers { after_crlf: line.ends_with(b"\r\n") };
                return Ok(());
            }
            State::Body(_) | State::Chunk(_) | State::Off => return Ok(()),
        };
        self.state = next;
        self.head = Head::default();
        Ok(())
    }
}

impl Head {
    /// Records the fields that define the length of the body.
    fn add_field(&mut self, line: &[u8]) {
        let Some((name, value)) = memchr(b':', line).and_then(|colon| line.split_at_checked(colon)) else { return };
        let name = name.trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            let digits = value.get(1..).unwrap_or_default().trim_ascii();
            self.lengths += 1;
            self.length = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok());
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.is_chunked = true;
        }
    }

    /// State after the complete head.
    fn body(&self) -> Result<State, Fault> {
        match (self.lengths, self.is_chunked) {
            (2.., _) => Err(MANY_LENGTHS),
            (1, true) => Err(TWO_LENGTHS),
            (_, true) => Ok(State::ChunkSize),
            (0, false) => Ok(State::Head),
            (_, false) => Ok(match self.length {
                // hyper refuses a length that is not a number.
                None => State::Off,
                Some(0) => State::Head,
                Some(length) => State::Body(length),
            }),
        }
    }
}

/// Size in the line before a chunk. Chunk extensions are ignored.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"\r\n")?;
    let size = line.split(|&byte| byte == b';').next()?.trim_ascii();
    let is_hex = !size.is_empty() && size.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(size).ok().filter(|_| is_hex)?;
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the fault in `bytes`, which must not depend on how they are split.
    fn read(bytes: &[u8]) -> Option<(u64, Fault)> {
        let found = Framing::new().read(bytes);
        for size in [1, 2, 3, 7] {
            let mut framing = Framing::new();
            assert_eq!(bytes.chunks(size).find_map(|piece| framing.read(piece)), found, "in pieces of {size}");
        }
        found
    }

    const GOOD: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    #[test]
    fn well_formed_requests_are_accepted() {
        for request in [
            GOOD.to_owned(),
            format!("\r\n\r\n{GOOD}"),
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\na\nb\nc".to_owned(),
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\n\n\n\n\r\n0\r\n\r\n".to_owned(),
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nTrailer: 1\r\n\r\n"
                .to_owned(),
        ] {
            // The next head is found after each of these requests.
            assert_eq!(read(request.as_bytes()), None, "{request:?}");
            let and_bare = format!("{request}GET / HTTP/1.1\nHost: x\r\n\r\n");
            let number = and_bare.matches("HTTP/1.1\r\n").count() as u64;
            assert_eq!(read(and_bare.as_bytes()), Some((number, BARE_LF)), "{and_bare:?}");
        }
    }

    #[test]
    fn ambiguous_heads_are_refused() {
        for (head, fault) in [
            ("GET / HTTP/1.1\nHost: x\n\n", BARE_LF),
            ("GET / HTTP/1.1\r\nHost: x\n\r\n", BARE_LF),
            ("GET / HTTP/1.1\r\nHost: x\r\n\n", BARE_LF),
            ("\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", BARE_LF),
            ("GET / HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", TWO_LENGTHS),
            ("GET / HTTP/1.1\r\ntransfer-encoding:chunked\r\ncontent-length:2\r\n\r\n", TWO_LENGTHS),
            ("GET / HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n", MANY_LENGTHS),
        ] {
            assert_eq!(read(head.as_bytes()), Some((0, fault)), "{head:?}");
            assert_eq!(read(format!("{GOOD}{head}").as_bytes()), Some((1, fault)), "{head:?} after another");
        }
    }

    #[test]
    fn malformed_chunk_refuses_the_next_request() {
        for size in ["", "g", "-1", "0x5", "5\n", "ffffffffffffffffff", "+5", " ; "] {
            let request =
                format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\nhello\r\n0\r\n\r\n{GOOD}");
            assert_eq!(read(request.as_bytes()), Some((1, BAD_CHUNK)), "{size:?}");
        }
    }

    #[test]
    fn http2_is_not_parsed() {
        assert_eq!(read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\n\n\n\n"), None);
    }
}
