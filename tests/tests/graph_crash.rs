//! Kills a process with durable runs, again and again, and lets it continue: see
//! `lyceum_tests::crash::judge` for what must hold.
//!
//! `LYCEUM_CRASH_SEEDS` sets how many seeds are run (20), `LYCEUM_CRASH_FIRST` the first;
//! each is printed before it runs. A kill does not lose what the system has in its caches,
//! so it does not show a missing sync: the store's own tests assert its settings.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::panic,
    clippy::print_stdout,
    reason = "a seed that fails must be known"
)]

use std::{
    env,
    io::Read as _,
    path::Path,
    process::{Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use lyceum_graph::{Saver as _, ThreadId};
use lyceum_store_sqlite::{OpenError, SqliteOptions, SqliteStore};
use lyceum_tests::crash::{
    judge::{Judged, Story, judge},
    ledger::{FAILPOINT, read},
};

/// No life takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(120);

/// Effects of one thread.
const EFFECTS: usize = 15;

/// Where a life may end, with about how often one life gets there.
const FAILPOINTS: [(&str, u64); 10] = [
    ("acquired", 4),
    ("node_start", 48),
    ("before_effect", 48),
    ("after_effect", 48),
    ("node_end", 36),
    ("before_commit", 120),
    ("after_commit", 120),
    ("after_reply", 120),
    ("before_release", 4),
    ("released", 4),
];

#[derive(Debug, Clone, Copy)]
enum End {
    /// By itself.
    Natural,
    /// Killed from outside after this time.
    After(Duration),
    /// Killed by itself at a failpoint.
    At(&'static str, u64),
    /// Not at all, but a commit's reply is lost.
    LostReply(u64),
}

#[test]
fn killed_runs_continue_as_if_nothing_had_happened() {
    let seeds = number("LYCEUM_CRASH_SEEDS", 20);
    let first = number("LYCEUM_CRASH_FIRST", 0);
    let folder = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let (status, _) = live(folder.path(), "sync", End::Natural);
    let natural = start.elapsed();
    assert!(status.success(), "the program fails when nobody kills it");
    let reference = judged(folder.path(), 0).story;
    assert_eq!(reference.ends.len(), 4, "every thread ends");
    assert_eq!(
        reference.effects.len(),
        4 * EFFECTS,
        "every effect takes place"
    );
    let (mut kills, mut repeated) = (0, 0);
    for seed in first..first + seeds {
        println!("seed {seed}");
        let (died, judged) = one(seed, natural, &reference);
        kills += died;
        repeated += judged.repeated;
    }
    println!("{kills} kills in {seeds} seeds; {repeated} effects repeated before their record");
    assert!(kills > 0, "nobody was killed");
}

/// Lives until it has ended well; says how often it was killed.
fn one(seed: u64, natural: Duration, reference: &Story) -> (u64, Judged) {
    let folder = tempfile::tempdir().unwrap();
    let mut dice = Dice(seed);
    let durability = ["sync", "async", "exit"][dice.below(3) as usize];
    let (mut kills, mut disturbed) = (0, 0);
    for _ in 0..=dice.below(4) {
        disturbed += 1;
        let end = match dice.below(5) {
            0 | 1 => End::After(natural.mul_f64(dice.early())),
            2 | 3 => {
                let (point, arrivals) = FAILPOINTS[dice.below(FAILPOINTS.len() as u64) as usize];
                End::At(point, (arrivals as f64 * dice.early()) as u64 + 1)
            }
            _ => End::LostReply((100.0 * dice.early()) as u64 + 1),
        };
        println!("  {durability}, {end:?}");
        let (status, said) = live(folder.path(), durability, end);
        // The later a failpoint, the more lives end before they get there.
        let was_killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(9);
        assert!(
            was_killed || status.success(),
            "seed {seed}: {status}: {said}"
        );
        kills += u64::from(was_killed);
    }
    let (status, said) = live(folder.path(), durability, End::Natural);
    assert!(status.success(), "seed {seed}: {status}: {said}");
    let judged = judged(folder.path(), seed);
    assert_eq!(&judged.story, reference, "seed {seed}");
    // Of four threads, either each effect that is on its way or each of the run.
    let unrecorded = match durability {
        "exit" => EFFECTS as u64,
        _ => 4,
    };
    let most = disturbed * 4 * unrecorded;
    assert!(judged.repeated <= most, "seed {seed}: {judged:?}");
    (kills, judged)
}

/// Starts the program and waits until it has ended, in whichever way.
fn live(folder: &Path, durability: &str, end: End) -> (ExitStatus, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_graph-crash"));
    command.arg(folder).arg(durability).env_remove(FAILPOINT);
    match end {
        End::Natural | End::After(_) => {}
        End::At(point, count) => {
            command.env(FAILPOINT, format!("{point}:{count}"));
        }
        End::LostReply(count) => {
            command.env(FAILPOINT, format!("lost_reply:{count}"));
        }
    }
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let (ended, ends) = mpsc::channel();
    let listener = thread::spawn(move || {
        let mut said = String::new();
        stderr.read_to_string(&mut said).unwrap();
        // Nobody waits any more once it was killed.
        let _late = ended.send(());
        said
    });
    let time = match end {
        End::After(time) => time,
        _ => PATIENCE,
    };
    if ends.recv_timeout(time).is_err() {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    (status, listener.join().unwrap())
}

/// Judges a folder, and looks for every acknowledged checkpoint in its file.
fn judged(folder: &Path, seed: u64) -> Judged {
    let entries = read(&folder.join("ledger")).unwrap();
    let judged = judge(&entries).unwrap_or_else(|wrong| {
        let told = entries.iter().map(|entry| format!("{entry:?}\n"));
        panic!("seed {seed}: {wrong}\n{}", told.collect::<String>())
    });
    let store = SqliteStore::open(folder.join("graph.db"), SqliteOptions::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for (name, acknowledged) in &judged.stored {
        let thread = ThreadId::new(name).unwrap();
        let heads = runtime
            .block_on(store.history(&thread, "", None, usize::MAX))
            .unwrap();
        let missing: Vec<_> = acknowledged
            .iter()
            .filter(|id| heads.iter().all(|head| head.id.0 != **id))
            .collect();
        assert!(
            missing.is_empty(),
            "seed {seed}: checkpoints {missing:?} of {name} were acknowledged and are lost"
        );
    }
    runtime.block_on(store.close());
    judged
}

#[test]
fn a_second_process_is_told_that_the_file_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("graph.db");
    let store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
    let again = SqliteStore::open(&path, SqliteOptions::default());
    assert!(matches!(again, Err(OpenError::Locked { .. })), "{again:?}");
    let (status, said) = live(folder.path(), "sync", End::Natural);
    assert!(!status.success());
    assert!(said.contains("another process uses it"), "{said}");
    let entries = read(&folder.path().join("ledger")).unwrap();
    assert_eq!(entries.len(), 1, "it ran nothing: {entries:?}");
    drop(store);
}

#[test]
fn of_two_processes_started_at_once_one_runs() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().to_owned();
    let other = thread::spawn(move || live(&other, "sync", End::Natural));
    let one = live(folder.path(), "sync", End::Natural);
    let other = other.join().unwrap();
    let won = [&one, &other].map(|(status, _)| status.success());
    assert!(won[0] || won[1], "nobody ran: {one:?}, {other:?}");
    for (_, said) in [&one, &other]
        .iter()
        .filter(|(status, _)| !status.success())
    {
        assert!(said.contains("another process uses it"), "{said}");
    }
    let judged = judged(folder.path(), 0);
    assert_eq!(judged.story.ends.len(), 4);
    assert_eq!(judged.repeated, 0, "no effect was made by both");
}

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// Vigna's `SplitMix64`, enough to spread seeds.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    /// In `[0, 1)`, and rather early than late: a life that continues others is short.
    fn early(&mut self) -> f64 {
        let share = self.below(1_000) as f64 / 1_000.0;
        share * share
    }
}
