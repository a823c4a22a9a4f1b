//! What this process uses of its machine: memory, CPU time, file descriptors.
//!
//! Invariant: the operating system is asked at most once a second, however often
//! somebody scrapes. Deliberately absent: other processes, disks, networks.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use metrics::{counter, gauge};
use sysinfo::{MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::metrics::{
    CPU_CORES, CPU_SECONDS, MAX_FDS, MEMORY_LIMIT, OPEN_FDS, RESIDENT_BYTES, RUNTIME_BUSY,
    RUNTIME_QUEUE, RUNTIME_TASKS, RUNTIME_WORKERS, START_TIME, VIRTUAL_BYTES,
};

/// How long a reading is served before the system is asked again.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// One reading of the process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ProcessStats {
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
    /// Virtual memory, in bytes.
    pub virtual_bytes: u64,
    /// Memory the process may use: the machine's, or its control group's if smaller.
    pub memory_limit_bytes: u64,
    /// CPU time used since the start, user and system, in whole seconds.
    pub cpu_seconds: u64,
    /// CPU used between the last two readings, as a share of all cores, 0 to 1.
    pub cpu_share: f64,
    /// Open file descriptors, where the system tells.
    pub open_files: Option<u64>,
    /// The most that may be open, where the system tells.
    pub max_open_files: Option<u64>,
    /// The machine's load average of the last minute; 0 where the system does not tell.
    pub load_average: f64,
    /// Start of the process, in seconds since the Unix epoch.
    pub started_unix_seconds: u64,
}

/// The name of this machine, or of the container that it seems to be; `None` where the system
/// does not tell.
#[must_use]
pub fn host_name() -> Option<String> {
    System::host_name().ok().filter(|name| !name.is_empty())
}

/// Reads [`ProcessStats`] and keeps the last reading for a second.
#[derive(Debug)]
pub struct ProcessWatch(Mutex<Watch>);

#[derive(Debug)]
struct Watch {
    /// Absent where the system cannot be asked; every reading is then zero.
    source: Option<(System, Pid)>,
    /// When the last reading was taken, and the CPU milliseconds it saw.
    last: Option<(Instant, u64)>,
    stats: ProcessStats,
    /// When the runtime was read, and how long its threads had been busy by then.
    busy: Option<(Instant, Duration)>,
}

impl Default for ProcessWatch {
    fn default() -> Self {
        Self::new()
    }
}

impl ProcessWatch {
    /// Watches this process.
    #[must_use]
    pub fn new() -> Self {
        let source = System::new().ok().zip(sysinfo::get_current_pid().ok());
        if source.is_none() {
            tracing::warn!("this system does not tell what a process uses; its metrics stay zero");
        }
        Self(Mutex::new(Watch {
            source,
            last: None,
            stats: ProcessStats::default(),
            busy: None,
        }))
    }

    /// Always reads this, whatever the process uses: for tests of what follows from it.
    #[must_use]
    pub fn fixed(stats: ProcessStats) -> Self {
        Self(Mutex::new(Watch {
            source: None,
            last: None,
            stats,
            busy: None,
        }))
    }

    /// The present reading, at most one second old. Takes about a tenth of a millisecond when it reads.
    #[must_use]
    pub fn stats(&self) -> ProcessStats {
        let mut watch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stale = watch.last.is_none_or(|(at, _)| at.elapsed() >= FRESH_FOR);
        if stale {
            watch.read();
        }
        watch.stats
    }

    /// Sets the process metrics from the present reading.
    pub fn publish(&self) {
        let stats = self.stats();
        counter!(CPU_SECONDS).absolute(stats.cpu_seconds);
        gauge!(RESIDENT_BYTES).set(stats.resident_bytes as f64);
        gauge!(VIRTUAL_BYTES).set(stats.virtual_bytes as f64);
        gauge!(START_TIME).set(stats.started_unix_seconds as f64);
        gauge!(MEMORY_LIMIT).set(stats.memory_limit_bytes as f64);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        gauge!(CPU_CORES).set(cores as f64);
        self.publish_runtime();
        if let Some(open) = stats.open_files {
            gauge!(OPEN_FDS).set(open as f64);
        }
        if let Some(max) = stats.max_open_files {
            gauge!(MAX_FDS).set(max as f64);
        }
    }

    /// Sets the metrics of the runtime that calls this, if one does.
    fn publish_runtime(&self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let runtime = runtime.metrics();
        let workers = runtime.num_workers();
        gauge!(RUNTIME_WORKERS).set(workers as f64);
        gauge!(RUNTIME_TASKS).set(runtime.num_alive_tasks() as f64);
        gauge!(RUNTIME_QUEUE).set(runtime.global_queue_depth() as f64);
        let busy = (0..workers).map(|worker| runtime.worker_total_busy_duration(worker));
        let (now, busy) = (Instant::now(), busy.sum::<Duration>());
        let mut watch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = watch.busy.replace((now, busy));
        drop(watch);
        let share = since.map_or(0.0, |(then, before)| {
            let possible = now.duration_since(then).as_secs_f64() * workers as f64;
            busy.saturating_sub(before).as_secs_f64() / possible.max(f64::EPSILON)
        });
        gauge!(RUNTIME_BUSY).set(share.clamp(0.0, 1.0));
    }
}

impl Watch {
    fn read(&mut self) {
        let Some((system, pid)) = &mut self.source else {
            return;
        };
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        system.refresh_processes_specifics(
            ProcessesToUpdate::Some(&[*pid]),
            false,
            ProcessRefreshKind::nothing()
                .with_memory()
                .with_cpu()
                .without_tasks(),
        );
        let machine = system.total_memory();
        let limit = system.cgroup_limits().map_or(machine, |c| c.total_memory);
        let Some(process) = system.process(*pid) else {
            return;
        };
        let (now, cpu_millis) = (Instant::now(), process.accumulated_cpu_time());
        let cpu_share = self.last.map_or(0.0, |(then, before)| {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let possible = now.duration_since(then).as_millis() as f64 * cores as f64;
            (cpu_millis.saturating_sub(before) as f64 / possible).clamp(0.0, 1.0)
        });
        self.stats = ProcessStats {
            resident_bytes: process.memory(),
            virtual_bytes: process.virtual_memory(),
            memory_limit_bytes: if limit == 0 {
                machine
            } else {
                limit.min(machine)
            },
            cpu_seconds: cpu_millis / 1_000,
            cpu_share,
            load_average: System::load_average().map_or(0.0, |load| load.one),
            open_files: process.open_files().map(|n| n as u64),
            max_open_files: process.open_files_limit().map(|n| n as u64),
            started_unix_seconds: process.start_time(),
        };
        self.last = Some((now, cpu_millis));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_process() {
        let stats = ProcessWatch::new().stats();
        assert!(stats.resident_bytes > 100_000, "{stats:?}");
        assert!(stats.resident_bytes < stats.memory_limit_bytes, "{stats:?}");
        assert!(stats.started_unix_seconds > 1_700_000_000, "{stats:?}");
        if cfg!(target_os = "linux") {
            assert!(stats.open_files.is_some_and(|open| open >= 3), "{stats:?}");
        }
    }

    #[test]
    fn a_reading_is_kept() {
        let watch = ProcessWatch::new();
        let first = watch.stats();
        let ballast = vec![1_u8; 64 << 20];
        assert_eq!(watch.stats().resident_bytes, first.resident_bytes);
        assert_eq!(ballast.iter().map(|&b| u64::from(b)).sum::<u64>(), 64 << 20);
    }
}
