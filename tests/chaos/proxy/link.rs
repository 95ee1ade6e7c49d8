//! One connection through the proxy, in both directions.

use std::{
    io,
    sync::{Mutex, atomic::Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream, tcp, unix},
    sync::oneshot,
};

use super::{
    Caught, Moment, Shared, Weather,
    frames::{Frame, Frames},
};

/// Withheld answers, and whom to tell once PostgreSQL has given the last one.
struct Withheld {
    caught: Caught,
    tell: Option<oneshot::Sender<Caught>>,
}

/// Carries bytes until either side closes.
pub async fn carry(shared: &Shared, client: TcpStream, postgres: UnixStream) {
    let (from_client, to_client) = client.into_split();
    let (from_postgres, to_postgres) = postgres.into_split();
    let withheld = Mutex::new(None);
    tokio::select! {
        _ = ask(shared, &withheld, from_client, to_postgres) => {}
        _ = answer(shared, &withheld, from_postgres, to_client) => {}
    }
}

/// What the server asks. It is read as messages, to find the moment at which to stop.
async fn ask(
    shared: &Shared,
    withheld: &Mutex<Option<Withheld>>,
    mut from: tcp::OwnedReadHalf,
    mut to: unix::OwnedWriteHalf,
) -> io::Result<()> {
    let mut frames = Frames::of_client();
    let mut transaction = None;
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        wait_as_told(shared).await;
        frames.push(&buffer[..read]);
        while let Some(frame) = frames.next() {
            if let Some(moment) = moment_of(&frame, &mut transaction) {
                // Before it is sent: the answer must not be faster than the trap.
                spring(shared, withheld, moment);
            }
            to.write_all(&frame.bytes).await?;
        }
    }
}

/// Which round of its transaction a message ends, and whether it is COMMIT. `rounds` counts them.
fn moment_of(frame: &Frame, rounds: &mut Option<usize>) -> Option<(usize, bool)> {
    if !frame.ends_a_round() {
        return None;
    }
    let query = frame.query().unwrap_or_default().trim();
    let is = |word: &str| query.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    if is("BEGIN") {
        *rounds = Some(0);
        return Some((0, false));
    }
    let round = rounds.as_ref()? + 1;
    // What is to be done last travels with it.
    let committing = query.ends_with("COMMIT");
    *rounds = (!committing && !is("ROLLBACK")).then_some(round);
    Some((round, committing))
}

/// Closes the trap if one is set for this moment.
fn spring(shared: &Shared, withheld: &Mutex<Option<Withheld>>, (round, committed): (usize, bool)) {
    let mut trap = shared.trap.lock().unwrap();
    let fits = |moment| match moment {
        Moment::Answered(wanted) => wanted == round,
        Moment::Committed => committed,
    };
    if let Some(trap) = trap.take_if(|trap| fits(trap.moment)) {
        let (caught, tell) = (Caught { committed }, Some(trap.tell));
        *withheld.lock().unwrap() = Some(Withheld { caught, tell });
    }
}

/// What PostgreSQL answers, read as messages too, to lose some of them.
async fn answer(
    shared: &Shared,
    withheld: &Mutex<Option<Withheld>>,
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
            if withhold(withheld, &frame) {
                continue;
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

/// Takes in an answer that shall not arrive, and tells when PostgreSQL is done with the round.
fn withhold(withheld: &Mutex<Option<Withheld>>, frame: &Frame) -> bool {
    let mut withheld = withheld.lock().unwrap();
    let Some(withheld) = withheld.as_mut() else { return false };
    // ReadyForQuery.
    if frame.kind == b'Z'
        && let Some(tell) = withheld.tell.take()
    {
        let _ = tell.send(withheld.caught);
    }
    true
}

async fn wait_as_told(shared: &Shared) {
    let weather = *shared.weather.borrow();
    if let Weather::Slow(by) = weather {
        tokio::time::sleep(by).await;
    }
}
