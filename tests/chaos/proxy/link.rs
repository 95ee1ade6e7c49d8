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
    Caught, NetworkCondition, Shared, TrapPoint,
    frames::{Frame, Frames},
    rounds::{Round, Rounds},
};

/// Why responses are withheld.
enum Withheld {
    /// Until the connection is cut or the server killed by the test, which is notified after PostgreSQL's last
    /// response.
    UntilReleased { caught: Caught, sender: Option<oneshot::Sender<Caught>> },
    /// Until PostgreSQL's last response. Then the connection is closed, and the server cannot know whether its write
    /// `failed` or committed.
    UntilRetried { failed: bool },
}

/// Carries bytes until either side closes.
pub async fn carry(shared: &Shared, is_keeper: &AtomicBool, client: TcpStream, postgres: UnixStream) {
    let (from_client, to_client) = client.into_split();
    let (from_postgres, to_postgres) = postgres.into_split();
    let withheld = Mutex::new(None);
    tokio::select! {
        _ = forward_requests(shared, is_keeper, &withheld, from_client, to_postgres) => {}
        _ = forward_responses(shared, &withheld, from_postgres, to_client) => {}
    }
}

/// Forwards the server's requests. They are parsed into messages, to find the moment at which to stop.
async fn forward_requests(
    shared: &Shared,
    is_keeper: &AtomicBool,
    withheld: &Mutex<Option<Withheld>>,
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
        apply_delay(shared).await;
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
                trigger_trap(shared, withheld, round);
            }
            to.write_all(&frame.bytes).await?;
        }
    }
}

/// Triggers the trap if one is set for this moment. If not, loses the response if a flush is due to be sent twice.
fn trigger_trap(shared: &Shared, withheld: &Mutex<Option<Withheld>>, round: Round) {
    let fits = |point| match point {
        TrapPoint::RoundTrip(wanted) => round.number == Some(wanted),
        TrapPoint::Committed => round.commits,
        TrapPoint::Flushed => round.flushes.is_some(),
    };
    let triggered = shared.trap.lock().unwrap().take_if(|trap| fits(trap.point));
    let pending = match triggered {
        Some(trap) => {
            Withheld::UntilReleased { caught: Caught { committed: round.commits }, sender: Some(trap.sender) }
        }
        None if round.flushes.is_some_and(|kind| shared.flushes.is_to_be_doubled(kind)) => {
            Withheld::UntilRetried { failed: false }
        }
        None => return,
    };
    *withheld.lock().unwrap() = Some(pending);
}

/// Forwards PostgreSQL's responses. They are also parsed into messages, to lose some of them.
async fn forward_responses(
    shared: &Shared,
    withheld: &Mutex<Option<Withheld>>,
    mut from: unix::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
) -> io::Result<()> {
    let mut condition = shared.condition.subscribe();
    let mut frames = Frames::of_server();
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        apply_delay(shared).await;
        let now = *condition.borrow_and_update();
        if now == NetworkCondition::Blackholed {
            let _ = condition.wait_for(|condition| *condition != NetworkCondition::Blackholed).await;
            return Ok(());
        }
        frames.push(&buffer[..read]);
        let mut forwarded = Vec::new();
        while let Some(frame) = frames.next() {
            match withhold(shared, withheld, &frame) {
                FrameAction::Forward => {}
                FrameAction::Withhold => continue,
                FrameAction::Close => return Ok(()),
            }
            // NotificationResponse.
            if now == NetworkCondition::NotificationsLost && frame.kind == b'A' {
                shared.lost.fetch_add(1, Ordering::SeqCst);
                continue;
            }
            forwarded.extend(frame.bytes);
        }
        to.write_all(&forwarded).await?;
    }
}

/// How a message of PostgreSQL is handled.
enum FrameAction {
    Forward,
    Withhold,
    /// No more messages pass: the connection is closed.
    Close,
}

/// Withholds a response if required, and detects when PostgreSQL has finished the round trip.
fn withhold(shared: &Shared, withheld: &Mutex<Option<Withheld>>, frame: &Frame) -> FrameAction {
    let mut withheld = withheld.lock().unwrap();
    let Some(pending) = withheld.as_mut() else { return FrameAction::Forward };
    // ReadyForQuery.
    let is_over = frame.kind == b'Z';
    match pending {
        Withheld::UntilReleased { caught, sender } => {
            if let Some(sender) = sender.take_if(|_| is_over) {
                let _ = sender.send(*caught);
            }
            FrameAction::Withhold
        }
        Withheld::UntilRetried { failed } => {
            *failed |= frame.is_failure();
            if !is_over {
                return FrameAction::Withhold;
            }
            if !*failed {
                shared.flushes.doubled.fetch_add(1, Ordering::SeqCst);
            }
            FrameAction::Close
        }
    }
}

async fn apply_delay(shared: &Shared) {
    let condition = *shared.condition.borrow();
    if let NetworkCondition::Slow(by) = condition {
        tokio::time::sleep(by).await;
    }
}
