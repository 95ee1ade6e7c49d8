//! File descriptors: each connection is an open file, and a process has a limit.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Reserve of file descriptors for the database, the listener, the log, and others.
const RESERVED_FILES: u64 = 256;

/// Raises the process's file limit for `connections` as far as it may, and returns the number of connections that fit.
/// Without this, a server runs out of files long before it is busy: the default limit is 1,024, for programs that use
/// `select`.
pub fn raise_file_limit(connections: usize) -> usize {
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(RESERVED_FILES);
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return connections };
    let raised = wanted.min(hard);
    let limit = if raised > soft && setrlimit(Resource::RLIMIT_NOFILE, raised, hard).is_ok() { raised } else { soft };
    let capacity = usize::try_from(limit.saturating_sub(RESERVED_FILES)).unwrap_or(usize::MAX).max(1);
    if capacity < connections {
        tracing::warn!(
            "CLOUDAPI_MAX_CONNECTIONS = {connections}, but the file limit of this process is {limit}: the server accepts {capacity} connections; raise its limit (ulimit -n, LimitNOFILE=) or set CLOUDAPI_MAX_CONNECTIONS lower"
        );
    }
    capacity.min(connections)
}
