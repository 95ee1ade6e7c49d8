//! Metrics of the process, with the names that all Prometheus clients use. Memory, threads and files are read from
//! Linux's `/proc`; values that the system does not provide are omitted.

use std::{fs, time::Duration};

use nix::sys::{
    resource::{Resource, UsageWho, getrlimit, getrusage},
    time::{TimeVal, TimeValLike},
};

use super::exposition::{Collector, Exposition};
use crate::base::runtime::clock::Timestamp;

/// This process.
#[derive(Debug)]
pub struct Process {
    /// Start time of the server.
    pub since: Timestamp,
}

impl Collector for Process {
    fn collect(&self, out: &mut Exposition) {
        out.gauge("process_start_time_seconds", "Unix time at which the server started.")
            .value(Timestamp::EARLIEST.until(self.since));
        if let Some(time) = processor_time() {
            out.counter("process_cpu_seconds_total", "User and system CPU time.").value(time);
        }
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kilobytes = |name| number_in(&status, name).map(|number| number * 1024);
        if let Some(bytes) = kilobytes("VmRSS:") {
            out.gauge("process_resident_memory_bytes", "Resident memory.").value(bytes);
        }
        if let Some(bytes) = kilobytes("VmSize:") {
            out.gauge("process_virtual_memory_bytes", "Virtual memory.").value(bytes);
        }
        if let Some(threads) = number_in(&status, "Threads:") {
            out.gauge("process_threads", "Threads.").value(threads);
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            // Reading the folder opens one of them.
            let count = files.count().saturating_sub(1);
            out.gauge("process_open_fds", "Open files, including connections.").value(count);
        }
        if let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
            out.gauge("process_max_fds", "Maximum number of open files.").value(limit);
        }
    }
}

fn processor_time() -> Option<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let micros = |time: TimeVal| u64::try_from(time.num_microseconds()).ok().map(Duration::from_micros);
    Some(micros(usage.user_time())? + micros(usage.system_time())?)
}

/// Returns the first number on the line that begins with `name`.
fn number_in(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}
