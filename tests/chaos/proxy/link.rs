//! One connection through the proxy, in both directions.

use std::{
    io,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream, tcp, unix},
    sync::oneshot,
};

use super::{
    Caught, Moment, Shared, Weather,
    frames::{Frame, Frames},
    rounds::{Round, Rounds},
};

/// Why responses are withheld.
enum Lost {
    /// Until the connection is cut or the server killed by the test, which is notified after PostgreSQL's last response.
    ToATrap { caught: Caught, tell: Option<oneshot::Sender<Caught>> },
    /// Until PostgreSQL's last response. Then the connection is closed, and the server cannot know whether its write
    /// `failed` or committed.
    ToBeSentAgain { failed: bool },
}

/// Carries bytes until either side closes.
pub async fn carry(shared: &Shared, is_keeper: &AtomicBool, client: TcpStream, postgres: UnixStream) {
    let (from_client, to_client) = client.into_split();
    let (from_postgres, to_postgres) = postgres.into_split();
    let withheld = Mutex::new(None);
    tokio::select! {
        _ = ask(shared, is_keeper, &withheld, from_client, to_postgres) => {}
        _ = answer(shared, &withheld, from_postgres, to_client) => {}
    }
}

/// Forwards the server's requests. They are parsed into messages, to find the moment at which to stop.
async fn ask(
    shared: &Shared,
    is_keeper: &AtomicBool,
    withheld: &Mutex<Option<Lost>>,
    mut from: tcp::OwnedReadHalf,
    mut to: unix::OwnedWriteHalf,
) -> io::Result<()> {
    let mut frames = Frames::of_client();
    let mut rounds = Rounds::default();
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        wait_as_told(shared).await;
        frames.push(&buffer[..read]);
        while let Some(frame) = frames.next() {
            // Only the connection that holds the lease listens.
            if frame
                .query()
                .or_else(|| frame.parsed().and_then(|(_, sql)| std::str::from_utf8(sql).ok()))
                .is_some_and(|sql| sql.starts_with("LISTEN"))
            {
                is_keeper.store(true, Ordering::SeqCst);
            }
            if let Some(round) = rounds.end(&frame) {
                // Before it is sent: the response must not arrive before the trap is set.
                spring(shared, withheld, round);
            }
            to.write_all(&frame.bytes).await?;
        }
    }
}

/// Triggers the trap if one is set for this moment. If not, loses the response if a flush is due to be sent twice.
fn spring(shared: &Shared, withheld: &Mutex<Option<Lost>>, round: Round) {
    let fits = |moment| match moment {
        Moment::Answered(wanted) => round.number == Some(wanted),
        Moment::Committed => round.commits,
        Moment::Flushed => round.flushes.is_some(),
    };
    let sprung = shared.trap.lock().unwrap().take_if(|trap| fits(trap.moment));
    let lost = match sprung {
        Some(trap) => Lost::ToATrap { caught: Caught { committed: round.commits }, tell: Some(trap.tell) },
        None if round.flushes.is_some_and(|kind| shared.flushes.is_to_be_doubled(kind)) => {
            Lost::ToBeSentAgain { failed: false }
        }
        None => return,
    };
    *withheld.lock().unwrap() = Some(lost);
}

/// Forwards PostgreSQL's responses. They are also parsed into messages, to lose some of them.
async fn answer(
    shared: &Shared,
    withheld: &Mutex<Option<Lost>>,
    mut from: unix::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
) -> io::Result<()> {
    let mut weather = shared.weather.subscribe();
    let mut frames = Frames::of_server();
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        wait_as_told(shared).await;
        let now = *weather.borrow_and_update();
        if now == Weather::Mute {
            let _ = weather.wait_for(|weather| *weather != Weather::Mute).await;
            return Ok(());
        }
        frames.push(&buffer[..read]);
        let mut passed = Vec::new();
        while let Some(frame) = frames.next() {
            match withhold(shared, withheld, &frame) {
                Fate::Passed => {}
                Fate::Withheld => continue,
                Fate::Cut => return Ok(()),
            }
            // NotificationResponse.
            if now == Weather::Unnotified && frame.kind == b'A' {
                shared.lost.fetch_add(1, Ordering::SeqCst);
                continue;
            }
            passed.extend(frame.bytes);
        }
        to.write_all(&passed).await?;
    }
}

/// How a message of PostgreSQL is handled.
enum Fate {
    Passed,
    Withheld,
    /// No more messages pass: the connection is closed.
    Cut,
}

/// Withholds a response if required, and detects when PostgreSQL has finished the round trip.
fn withhold(shared: &Shared, withheld: &Mutex<Option<Lost>>, frame: &Frame) -> Fate {
    let mut withheld = withheld.lock().unwrap();
    let Some(lost) = withheld.as_mut() else { return Fate::Passed };
    // ReadyForQuery.
    let is_over = frame.kind == b'Z';
    match lost {
        Lost::ToATrap { caught, tell } => {
            if let Some(tell) = tell.take_if(|_| is_over) {
                let _ = tell.send(*caught);
            }
            Fate::Withheld
        }
        Lost::ToBeSentAgain { failed } => {
            *failed |= frame.is_failure();
            if !is_over {
                return Fate::Withheld;
            }
            if !*failed {
                shared.flushes.doubled.fetch_add(1, Ordering::SeqCst);
            }
            Fate::Cut
        }
    }
}

async fn wait_as_told(shared: &Shared) {
    let weather = *shared.weather.borrow();
    if let Weather::Slow(by) = weather {
        tokio::time::sleep(by).await;
    }
}
