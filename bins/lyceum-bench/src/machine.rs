//! What the figures were measured on, read from `/proc`; what cannot be read is left out.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde::Serialize;

/// Writes of which the middle one tells what a sync costs.
const SYNCS: usize = 101;

/// Facts of a machine that decide what a figure means.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// Cores that this process may use.
    cores: usize,
    /// The processor's name.
    cpu: Option<String>,
    /// Memory in bytes.
    memory_bytes: Option<u64>,
    /// The kernel.
    kernel: Option<String>,
    /// Processes that wanted to run in the last minute; above `cores`, wall times say little.
    load: Option<f64>,
    /// What it takes to append 4 KiB to a file and sync it, the median in microseconds.
    sync_us: f64,
}

impl Machine {
    /// Looks at this machine, and at the disk that holds `data`.
    ///
    /// # Errors
    ///
    /// When `data` cannot be written.
    pub fn look(data: &Path) -> Result<Self> {
        Ok(Self {
            cores: thread::available_parallelism().map_or(1, usize::from),
            cpu: field("/proc/cpuinfo", "model name"),
            memory_bytes: field("/proc/meminfo", "MemTotal").and_then(|text| kibibytes(&text)),
            kernel: read("/proc/sys/kernel/osrelease"),
            load: read("/proc/loadavg").and_then(|text| text.split(' ').next()?.parse().ok()),
            sync_us: sync_us(data)?,
        })
    }
}

/// Resident memory of this process in bytes.
///
/// # Errors
///
/// When the system has no `/proc`.
pub fn resident_bytes() -> Result<u64> {
    field("/proc/self/status", "VmRSS")
        .and_then(|text| kibibytes(&text))
        .context("find VmRSS in /proc/self/status (Linux only)")
}

/// The most resident memory that this process has had since [`forget_peak`], in bytes.
///
/// # Errors
///
/// When the system has no `/proc`.
pub fn peak_bytes() -> Result<u64> {
    field("/proc/self/status", "VmHWM")
        .and_then(|text| kibibytes(&text))
        .context("find VmHWM in /proc/self/status (Linux only)")
}

/// Begins the search for the peak anew.
///
/// # Errors
///
/// When the system does not let it.
pub fn forget_peak() -> Result<()> {
    // See proc_pid_clear_refs(5).
    fs::write("/proc/self/clear_refs", "5").context("reset VmHWM (Linux only)")
}

/// CPU time that the threads of this process have used, those that ended left out.
///
/// # Errors
///
/// When the system has no `/proc`.
pub fn cpu_time() -> Result<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir("/proc/self/task")? {
        // A thread may end while we look.
        let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        nanos += text
            .split(' ')
            .next()
            .and_then(|nanos| nanos.parse::<u64>().ok())
            .unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanos))
}

fn sync_us(data: &Path) -> Result<f64> {
    let path = data.join("sync");
    let mut file = File::create(&path)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let start = Instant::now();
        file.write_all(&[1; 4096])?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    fs::remove_file(path)?;
    times.sort_unstable();
    Ok((times[SYNCS / 2].as_secs_f64() * 1e6).round())
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// The value of the first line `name: value`.
fn field(path: &str, name: &str) -> Option<String> {
    let text = read(path)?;
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = pairs.find(|(key, _)| key.trim() == name)?;
    Some(value.trim().to_owned())
}

fn kibibytes(text: &str) -> Option<u64> {
    let kibibytes: u64 = text.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}
