//! Room for connections: each is an open file, and a process may have so many.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Open files that are no client's connection: the database's, the listener, the log, and some to spare.
const SPARE: u64 = 256;

/// Makes room for `connections`, raising the process's limit as far as it may; gives how many there is
/// room for. Without this a server runs out of files long before it is busy: systems start processes
/// with 1,024, for the sake of programs that use `select`.
pub fn make_room(connections: usize) -> usize {
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(SPARE);
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return connections };
    let raised = wanted.min(hard);
    let limit = if raised > soft && setrlimit(Resource::RLIMIT_NOFILE, raised, hard).is_ok() { raised } else { soft };
    let room = usize::try_from(limit.saturating_sub(SPARE)).unwrap_or(usize::MAX).max(1);
    if room < connections {
        tracing::warn!(
            "CLOUDAPI_MAX_CONNECTIONS = {connections}, but this process may have {limit} files open: it takes {room} connections; raise its limit (ulimit -n, LimitNOFILE=) or set fewer"
        );
    }
    room.min(connections)
}
