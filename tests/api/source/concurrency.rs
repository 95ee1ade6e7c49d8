//! Rules for tasks and `select!` that the compiler cannot check: no future is left unpolled while it may hold a
//! resource that another one needs, and no background task runs without the supervisor.

use std::collections::BTreeMap;

use crate::source::architecture::sources;

/// Places where a `select!` leaves a future unpolled, or awaits in the handler of a branch: module, text of the branch,
/// and why nothing is held in the meantime. The list may only shrink: an entry that matches nothing fails.
const REVIEWED_BRANCHES: &[(&str, &str, &str)] = &[
    (
        "server::connections",
        "ended = connection.as_mut()",
        "the handler of the other branch continues to poll this connection",
    ),
    (
        "server::connections",
        "_ = signals.next()",
        "awaits the connection itself, first with a time limit and then without; the other branch is that connection",
    ),
    (
        "api::events::stream",
        "() = self.watch.invalidated()",
        "the other branches keep no future between two calls and hold nothing; the check is bounded in time",
    ),
    (
        "api::events::stream",
        "() = &mut self.heartbeat",
        "a timer, which holds nothing; for the other branches, the same",
    ),
    (
        "server::supervision::supervisor",
        "ended = &mut task",
        "a spawned task, which runs whether or not its handle is polled",
    ),
];

/// Modules that spawn tasks outside the table of workers, how many, and what ends them and notices their panics.
const SPAWNS: &[(&str, usize, &str)] = &[
    ("server::workers", 1, "the supervisor of each worker"),
    ("server::supervision::supervisor", 1, "the worker"),
    ("server::connections", 1, "a connection: its permit is dropped with it, and drain waits for it"),
    ("server::metrics", 1, "one page; a panic returns 500"),
    ("auth::gate", 1, "a write that outlives its client; its panic fails the request"),
    (
        "auth::limits::lookup_batch",
        1,
        "one run of batches, awaited by its callers; after a panic, the next caller starts another",
    ),
    ("db::pool", 1, "closes one connection in a bounded time"),
    ("server::connections::unread", 1, "reads the rest of one request's body in a bounded time"),
    ("auth::passwords::cpu_pool", 1, "one password hash; the task holds the permit"),
    ("tx::transaction", 1, "one rollback; the response waits for it"),
    ("resources::engine", 1, "one step of an operation, in a set that notices its end"),
    ("api::webhooks::delivery::worker", 1, "a delivery, in a set that notices its end"),
    ("api::webhooks::delivery::send", 1, "the connection of one delivery, aborted with it"),
    ("resources::drivers::aws::client::credentials", 1, "one lookup of credentials, awaited immediately"),
    ("resources::drivers::docker::pulls", 1, "one image pull, which releases its slot when it panics"),
    ("api::usage::counting::flush", 1, "one sync of the journal, awaited immediately"),
    (
        "cli::serve",
        5,
        "the server, its metrics, the PostgreSQL supervisor (which survives its own panics), and two signal handlers",
    ),
    ("cli::database", 1, "one step of startup, awaited immediately"),
    ("db::embedded::lifeline", 1, "a process, not a task"),
];

/// The source without tests and comments.
fn code(source: &str) -> String {
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = source.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The length of `text` up to the bracket that closes the one before it; with `to_comma`, up to the first comma outside
/// brackets.
fn length_to_end(text: &str, to_comma: bool) -> usize {
    let mut depth = 0_i32;
    for (at, character) in text.char_indices() {
        match character {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' if depth == 0 => return at,
            '}' | ')' | ']' => depth -= 1,
            ',' if depth == 0 && to_comma => return at,
            _ => {}
        }
    }
    text.len()
}

/// The branches of every `select!`, each with its handler.
fn branches(code: &str) -> Vec<(String, String)> {
    const SELECT: &str = "select! {";
    let mut found = Vec::new();
    for (at, _) in code.match_indices(SELECT) {
        let inner = &code[at + SELECT.len()..];
        let mut rest = &inner[..length_to_end(inner, false)];
        rest = rest.trim_start().strip_prefix("biased;").unwrap_or(rest);
        while let Some((branch, after)) = rest.split_once("=>") {
            let after = after.trim_start();
            let (handler, next) = match after.strip_prefix('{') {
                Some(block) => {
                    let end = length_to_end(block, false);
                    (&block[..end], block[end..].trim_start_matches('}').trim_start().trim_start_matches(','))
                }
                None => {
                    let end = length_to_end(after, true);
                    (&after[..end], after[end..].trim_start_matches(','))
                }
            };
            let branch = branch.split_whitespace().collect::<Vec<_>>().join(" ");
            found.push((branch, handler.to_owned()));
            rest = next;
        }
    }
    found
}

/// Whether a future may be left unpolled while the handler of this branch, or the code after the `select!`, awaits
/// another.
fn may_leave_a_future_unpolled((branch, handler): &(String, String)) -> bool {
    // A future that is polled by reference outlives the `select!`. All others are dropped before a handler runs.
    let by_reference = branch.split_once('=').is_some_and(|(_, future)| {
        let future = future.trim_start();
        future.starts_with("&mut ") || future.contains(".as_mut()")
    });
    by_reference || handler.contains(".await")
}

#[test]
fn select_handlers_do_not_await_while_another_branch_is_unpolled() {
    let mut unreviewed = Vec::new();
    let mut matched = vec![false; REVIEWED_BRANCHES.len()];
    for (module, source) in sources() {
        let code = code(&source);
        assert!(!code.contains("future::select(") && !code.contains("select_all("), "{module}: use tokio::select!");
        for branch in branches(&code).into_iter().filter(may_leave_a_future_unpolled) {
            let known = REVIEWED_BRANCHES.iter().position(|(known, text, _)| *known == module && branch.0 == *text);
            match known {
                Some(known) => matched[known] = true,
                None => unreviewed.push(format!("{module}: {} => {}", branch.0, branch.1.trim())),
            }
        }
    }
    assert!(
        unreviewed.is_empty(),
        "these leave a future unpolled, or await in a handler; poll both together instead:\n{unreviewed:#?}"
    );
    let stale: Vec<_> = REVIEWED_BRANCHES.iter().zip(&matched).filter(|(_, matched)| !**matched).collect();
    assert!(stale.is_empty(), "remove stale entries from the list: {stale:#?}");
}

#[test]
fn awaits_in_select_handlers_are_detected() {
    let source = "
        tokio::select! {
            biased;
            ended = &mut turn => break ended,
            () = sleep(lease.mul_f64(0.5)) => match renew(&app, &taken).await { Ok(true) => {} Err(_) => return },
            Some(x) = set.join_next(), if more => { done(x); }
            () = stop.cancelled() => {}
        }
        tokio::select! { _ = a.recv() => {}, _ = b.recv() => {} }";
    let found = branches(source);
    let texts: Vec<_> = found.iter().map(|(branch, _)| branch.as_str()).collect();
    assert_eq!(
        texts,
        [
            "ended = &mut turn",
            "() = sleep(lease.mul_f64(0.5))",
            "Some(x) = set.join_next(), if more",
            "() = stop.cancelled()",
            "_ = a.recv()",
            "_ = b.recv()"
        ]
    );
    let bad: Vec<_> = found.iter().map(may_leave_a_future_unpolled).collect();
    assert_eq!(bad, [true, true, false, false, false, false]);
}

#[test]
fn background_tasks_are_rows_of_the_workers_table() {
    let mut found = BTreeMap::new();
    for (module, source) in sources() {
        let code = source.split("#[cfg(test)]").next().unwrap_or_default();
        let spawns = ["tokio::spawn(", ".spawn(", "spawn_blocking(", "spawn_local("];
        let count: usize = spawns.iter().map(|spawn| code.matches(spawn).count()).sum();
        if count > 0 {
            found.insert(module, count);
        }
    }
    let known: BTreeMap<_, _> = SPAWNS.iter().map(|(module, count, _)| ((*module).to_owned(), *count)).collect();
    assert_eq!(found, known, "spawn a background task as a row of workers::TABLE; explain any other task in this list");
}
