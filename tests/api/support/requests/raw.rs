//! Plain connections, for requests that no client library would send.

use cloudapi::{
    http::layers::edge::{EdgeLimits, EdgeOptions},
    server::state::AppOptions,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A connection to `url`.
pub async fn connect(url: &str) -> TcpStream {
    TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap()
}

/// Sends bytes. Ignores errors of a connection that the server has closed already.
pub async fn send(stream: &mut TcpStream, bytes: impl AsRef<[u8]>) {
    let _ = stream.write_all(bytes.as_ref()).await;
}

/// Reads until the server closes the connection. A reset counts as closed.
pub async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads one response's head and body, on a connection that may stay open.
pub async fn read_response(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse::<usize>().unwrap());
            if body.len() >= length {
                return text;
            }
        }
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "closed in the middle of {text:?}");
        answer.extend_from_slice(&buffer[..read]);
    }
}

/// Options with these limits, and the defaults for everything else.
pub fn edge_options(change: impl FnOnce(&mut EdgeLimits)) -> AppOptions {
    let mut limits = EdgeLimits::default();
    change(&mut limits);
    AppOptions { edge: EdgeOptions { limits, ..EdgeOptions::default() }, ..AppOptions::default() }
}
