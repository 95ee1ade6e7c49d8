//! One event to 1,000 readers of one project, next to writing the same bytes to 1,000 plain sockets in the same run.

use std::{
    io::Write,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::json;
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};
use uuid::Uuid;

use crate::support::{
    Result, Server, Spread, bootstrap,
    load::{Client, request, text},
    median,
};

const READERS: usize = 1_000;
const ROUNDS: usize = 50;
/// How long an event may take at most.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Runs the comparison in an empty database. `clients` runs all clients.
pub fn run(clients: &Runtime, folder: &Path, database: &str) -> Result<()> {
    let (session, project) = bootstrap(folder, database)?;
    let ours = Server::cloudapi(folder, database, &[])?;
    let bare = Server::baseline(folder, database)?;
    clients.block_on(compare(&ours, &bare, database, &session, &project))
}

async fn compare(ours: &Server, bare: &Server, database: &str, session: &str, project: &str) -> Result<()> {
    let db = PgPoolOptions::new().max_connections(1).connect(database).await?;
    let mut writer = Client::open(ours.address).await?;
    let made = writer.create("/v1/keys", session, &json!({ "project_id": project })).await?;
    let key = &text(&made, "key")?;
    let mut of_ours = Readers::new();
    for _ in 0..READERS {
        let stream = of_ours.connect(ours.address).await?;
        of_ours.read(stream, Some(request("GET", "/v1/events/stream?type=token.created", key, "", "")));
    }
    of_ours.wait_until_received(b"retry: ").await?;
    let mut of_bare = Readers::new();
    for _ in 0..READERS {
        let stream = of_bare.connect(bare.address).await?;
        of_bare.read(stream, Some(b"read".to_vec()));
    }
    of_bare.wait_until_received(b"hello").await?;
    let mut control = TcpStream::connect(bare.address).await?;
    control.set_nodelay(true)?;

    println!("one event to {READERS} readers, {ROUNDS} rounds; milliseconds");
    let mut figures: [Vec<f64>; 6] = Default::default();
    for round in 0..=ROUNDS {
        let name = format!("round {round}");
        let token = writer.create("/v1/tokens", key, &json!({ "name": name, "scopes": ["users:read"] })).await?;
        let committed = Instant::now();
        let id = text(&token, "id")?;
        let seen = sealed(&db, &id);
        let subject = format!("\"subject\":\"{id}\"");
        let (sealed, all) = tokio::join!(seen, of_ours.wait_until_received(subject.as_bytes()));
        let (sealed, (times, length)) = (sealed?, all?);

        // Send the same number of bytes to as many sockets, in the simplest way.
        let end = format!("end of {}", Uuid::new_v4());
        let mut bytes = vec![b'x'; length.saturating_sub(end.len())];
        bytes.extend_from_slice(end.as_bytes());
        let sent = Instant::now();
        control.write_u32(u32::try_from(bytes.len())?).await?;
        control.write_all(&bytes).await?;
        let (bare_times, _) = of_bare.wait_until_received(end.as_bytes()).await?;

        // The first round warms up.
        if round == 0 {
            continue;
        }
        let ms = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64() * 1e3;
        let last = |times: &[Instant]| times.iter().max().copied().unwrap_or(committed);
        let middle = |from: Instant, times: &[Instant]| {
            median(&mut times.iter().map(|time| ms(from, *time)).collect::<Vec<_>>())
        };
        // The poll may notice the sealed entry late; the first reader proves that it was sealed.
        let sealed = times.iter().min().copied().unwrap_or(sealed).min(sealed);
        let values = [
            middle(committed, &times),
            ms(committed, last(&times)),
            ms(sealed, last(&times)),
            middle(sent, &bare_times),
            ms(sent, last(&bare_times)),
            ms(sealed, last(&times)) / ms(sent, last(&bare_times)),
        ];
        figures.iter_mut().zip(values).for_each(|(figure, value)| figure.push(value));
    }
    let names = [
        "ours, from the write's response to the median reader",
        "ours, from the write's response to the last reader",
        "ours, from sealing to the last reader",
        "bare sockets, to the median reader",
        "bare sockets, to the last reader",
        "ratio, from sealing to the last reader",
    ];
    for (name, figure) in names.iter().zip(&mut figures) {
        println!("  {name}: {}", Spread::of(figure));
    }
    println!("  memory of our server: {:.0} MB", ours.memory()? as f64 / 1e6);
    Ok(())
}

/// When the entry with `target` was first seen in the audit trail.
async fn sealed(db: &PgPool, target: &str) -> Result<Instant> {
    let project: Uuid = sqlx::query_scalar("SELECT id FROM projects LIMIT 1").fetch_one(db).await?;
    loop {
        let found: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM audit_entries WHERE project_id = $1 AND target_id = $2)")
                .bind(project)
                .bind(target)
                .fetch_one(db)
                .await?;
        if found {
            return Ok(Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// When a reader received the expected bytes, and everything it received since the previous ones.
type Receipt = (Instant, Vec<u8>);

/// Readers, each in its own task.
struct Readers {
    wanted: Vec<UnboundedSender<Vec<u8>>>,
    receipts: UnboundedReceiver<Receipt>,
    sender: UnboundedSender<Receipt>,
}

impl Readers {
    fn new() -> Self {
        let (sender, receipts) = unbounded_channel();
        Self { wanted: Vec::new(), receipts, sender }
    }

    async fn connect(&self, address: SocketAddr) -> Result<TcpStream> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Sends `hello`, then reads.
    fn read(&mut self, mut stream: TcpStream, hello: Option<Vec<u8>>) {
        let (wanted, mut wants) = unbounded_channel::<Vec<u8>>();
        self.wanted.push(wanted);
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let mut bytes = Vec::with_capacity(16 * 1024);
            if let Some(hello) = hello
                && stream.write_all(&hello).await.is_err()
            {
                return;
            }
            while let Some(want) = wants.recv().await {
                while !bytes.windows(want.len()).any(|part| part == want) {
                    match stream.read_buf(&mut bytes).await {
                        Ok(0) | Err(_) => return,
                        Ok(_) => {}
                    }
                }
                let _ = sender.send((Instant::now(), std::mem::take(&mut bytes)));
            }
        });
    }

    /// Waits until each reader has received `bytes`. Returns when, and how many bytes a reader received.
    async fn wait_until_received(&mut self, bytes: &[u8]) -> Result<(Vec<Instant>, usize)> {
        for wanted in &self.wanted {
            wanted.send(bytes.to_vec())?;
        }
        let (mut times, mut length) = (Vec::new(), 0);
        while times.len() < self.wanted.len() {
            let (time, receipts) = timeout(RECEIVE_TIMEOUT, self.receipts.recv()).await?.ok_or("no reader is left")?;
            times.push(time);
            length = receipts.len();
        }
        Ok((times, length))
    }
}

/// Forwards data from the last connection to all others, one after the other.
pub async fn serve_bare() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("bare listens on {}", listener.local_addr()?);
    std::io::stdout().flush()?;
    let mut readers = Vec::new();
    while readers.len() < READERS {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        stream.read_exact(&mut [0; 4]).await?;
        stream.write_all(b"hello").await?;
        readers.push(stream);
    }
    let (mut control, _) = listener.accept().await?;
    loop {
        let mut bytes = vec![0; control.read_u32().await? as usize];
        control.read_exact(&mut bytes).await?;
        for reader in &mut readers {
            reader.write_all(&bytes).await?;
        }
    }
}
