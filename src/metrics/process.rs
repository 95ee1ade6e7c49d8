//! The process, under the names that every Prometheus client gives these numbers. What the system does not tell is
//! left out: memory, threads and files are read from Linux's `/proc`.

use std::{fs, time::Duration};

use nix::sys::{
    resource::{Resource, UsageWho, getrlimit, getrusage},
    time::{TimeVal, TimeValLike},
};

use super::text::{Measured, Page};
use crate::base::clock::Timestamp;

/// This process.
#[derive(Debug)]
pub struct Process {
    /// When it began to serve.
    pub since: Timestamp,
}

impl Measured for Process {
    fn tell(&self, page: &mut Page) {
        page.gauge("process_start_time_seconds", "When the server started, since 1970.")
            .is(Timestamp::EARLIEST.until(self.since));
        if let Some(time) = processor_time() {
            page.counter("process_cpu_seconds_total", "Processor time, the system's for it included.").is(time);
        }
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kilobytes = |name| number_in(&status, name).map(|number| number * 1024);
        if let Some(bytes) = kilobytes("VmRSS:") {
            page.gauge("process_resident_memory_bytes", "Memory that is not swapped out.").is(bytes);
        }
        if let Some(bytes) = kilobytes("VmSize:") {
            page.gauge("process_virtual_memory_bytes", "Addresses in use.").is(bytes);
        }
        if let Some(threads) = number_in(&status, "Threads:") {
            page.gauge("process_threads", "Threads.").is(threads);
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            // One of them is for looking.
            let count = files.count().saturating_sub(1);
            page.gauge("process_open_fds", "Open files, connections included.").is(count);
        }
        if let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
            page.gauge("process_max_fds", "How many files may be open.").is(limit);
        }
    }
}

fn processor_time() -> Option<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let micros = |time: TimeVal| u64::try_from(time.num_microseconds()).ok().map(Duration::from_micros);
    Some(micros(usage.user_time())? + micros(usage.system_time())?)
}

/// The first number on the line that begins with `name`.
fn number_in(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}
