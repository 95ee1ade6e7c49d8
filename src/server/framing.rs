//! Where requests of HTTP/1 begin and end, read as strictly as RFC 9112 has it.
//!
//! hyper takes a bare LF for the end of a line, joins two lengths that are the same, and drops a length that stands
//! beside chunks without telling. A proxy in front of the server may read any of these otherwise and see the end of the
//! request elsewhere (request smuggling). Here each head is read a second time as bytes; what is ambiguous is refused.

/// Longer heads are refused by hyper.
const MAX_HEAD: usize = 64 * 1024;
/// With which HTTP/2 begins (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// What is wrong with a head.
pub type Fault = &'static str;

const BARE_LF: Fault = "A line of the head ends with LF alone; end each with CRLF";
const TWO_LENGTHS: Fault = "The head has both Content-Length and Transfer-Encoding; send one of them";
const MANY_LENGTHS: Fault = "The head has more than one Content-Length; send one";
const BAD_CHUNK: Fault = "A chunk of the request before this one is malformed; send well-formed chunks";

/// Follows the bytes of one connection.
#[derive(Debug)]
pub struct Framing {
    state: State,
    /// The head so far, or a line of chunked framing.
    buffer: Vec<u8>,
    /// How many heads have ended.
    heads: u64,
    is_http2: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    /// So many bytes until the next head.
    Body(u64),
    /// The line with a chunk's size.
    ChunkSize,
    /// So many bytes of a chunk, and the CRLF after it.
    Chunk(u64),
    /// Lines after the last chunk.
    Trailers,
    /// It is HTTP/2, or hyper refuses it.
    Off,
}

impl Framing {
    /// Of a connection from which nothing was read.
    pub fn new() -> Self {
        Self { state: State::Head, buffer: Vec::new(), heads: 0, is_http2: false }
    }

    /// Reads what has come next. Gives the first head that must be refused, by its number from 0, if there is one:
    /// nothing after it is looked at, because where that begins cannot be known.
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
                State::Head | State::ChunkSize | State::Trailers => {
                    let line_end = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| at + 1);
                    let (line, rest) = bytes.split_at_checked(line_end).unwrap_or((bytes, &[]));
                    bytes = rest;
                    self.buffer.extend_from_slice(line);
                    if self.buffer.len() > MAX_HEAD {
                        self.state = State::Off;
                    } else if line.ends_with(b"\n")
                        && let Err(fault) = self.end_line()
                    {
                        self.state = State::Off;
                        return Some((self.heads, fault));
                    }
                }
                State::Off => {}
            }
        }
        None
    }

    /// Whether the client is not in the middle of a request of HTTP/1, as far as was read.
    pub fn is_between_requests(&self) -> bool {
        self.is_http2 || (self.state == State::Head && self.buffer.is_empty())
    }

    /// Goes on after a line, with which `buffer` ends.
    fn end_line(&mut self) -> Result<(), Fault> {
        match self.state {
            State::Head if self.buffer == HTTP2_PREFACE => {
                self.is_http2 = true;
                self.state = State::Off;
            }
            // Lines before a head are skipped, as hyper does.
            State::Head if self.buffer == b"\r\n" => self.buffer.clear(),
            State::Head => {
                if !self.buffer.ends_with(b"\r\n") {
                    return Err(BARE_LF);
                }
                if self.buffer.ends_with(b"\r\n\r\n") {
                    self.state = body_of(&self.buffer)?;
                    self.heads += 1;
                    self.buffer.clear();
                }
            }
            State::ChunkSize => {
                self.state = match chunk_size(&self.buffer).ok_or(BAD_CHUNK)? {
                    0 => State::Trailers,
                    size => State::Chunk(size.saturating_add(2)),
                };
                self.buffer.clear();
            }
            State::Trailers => {
                if self.buffer == b"\r\n" || self.buffer.ends_with(b"\r\n\r\n") {
                    self.state = State::Head;
                    self.buffer.clear();
                }
            }
            State::Body(_) | State::Chunk(_) | State::Off => {}
        }
        Ok(())
    }
}

/// What follows a whole head.
fn body_of(head: &[u8]) -> Result<State, Fault> {
    let fields = head.split(|&byte| byte == b'\n').skip(1).filter_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        Some((line.get(..colon)?.trim_ascii(), line.get(colon + 1..)?.trim_ascii()))
    });
    let (mut length, mut is_chunked) = (None, false);
    for (name, value) in fields {
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            is_chunked = true;
        } else if name.eq_ignore_ascii_case(b"content-length") && length.replace(value).is_some() {
            return Err(MANY_LENGTHS);
        }
    }
    match (length, is_chunked) {
        (Some(_), true) => Err(TWO_LENGTHS),
        (None, true) => Ok(State::ChunkSize),
        (None, false) => Ok(State::Head),
        // What is no number is refused by hyper.
        (Some(length), false) => Ok(match std::str::from_utf8(length).ok().and_then(|text| text.parse().ok()) {
            None => State::Off,
            Some(0) => State::Head,
            Some(length) => State::Body(length),
        }),
    }
}

/// The size in the line before a chunk; extensions say nothing.
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

    /// The fault in `bytes`, however they are cut into pieces.
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
    fn well_formed_requests_have_no_fault() {
        for request in [
            GOOD.to_owned(),
            format!("\r\n\r\n{GOOD}"),
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\na\nb\nc".to_owned(),
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\n\n\n\n\r\n0\r\n\r\n".to_owned(),
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nTrailer: 1\r\n\r\n"
                .to_owned(),
        ] {
            // Whatever comes first, the next head is found again.
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
    fn nothing_is_believed_to_be_a_head_after_a_malformed_chunk() {
        for size in ["", "g", "-1", "0x5", "5\n", "ffffffffffffffffff", "+5", " ; "] {
            let request =
                format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\nhello\r\n0\r\n\r\n{GOOD}");
            assert_eq!(read(request.as_bytes()), Some((1, BAD_CHUNK)), "{size:?}");
        }
    }

    #[test]
    fn http2_is_left_alone() {
        assert_eq!(read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\n\n\n\n"), None);
    }
}
