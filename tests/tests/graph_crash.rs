//! Kills a process with durable runs, again and again, and lets it continue: see
//! `lyceum_tests::crash::judge` for what must hold.
//!
//! `LYCEUM_CRASH_SEEDS` sets how many seeds are run on a file (20),
//! `LYCEUM_CRASH_POSTGRES_SEEDS` how many on a PostgreSQL server that stays (3), and
//! `LYCEUM_CRASH_FIRST` the first; each is printed before it runs. A kill does not lose what the system has in its caches,
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

use lyceum_graph::{Saver, ThreadId};
use lyceum_store_postgres::{PostgresOptions, PostgresStore, test_server::TestServer};
use lyceum_store_sqlite::{OpenError, SqliteOptions, SqliteStore};
use lyceum_tests::crash::{
    judge::{Judged, Story, judge},
    ledger::{FAILPOINT, read},
};

/// No life takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(120);

/// Stops all runs of a life once: see `graph-crash`.
const STOP: &str = "LYCEUM_CRASH_STOP";

/// Effects of one thread.
const EFFECTS: usize = 25;

/// Where a life may end, with about how often one life gets there.
const FAILPOINTS: [(&str, u64); 10] = [
    ("acquired", 4),
    ("node_start", 100),
    ("before_effect", 90),
    ("after_effect", 90),
    ("node_end", 44),
    ("before_commit", 220),
    ("after_commit", 220),
    ("after_reply", 220),
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
    /// Not at all, but all runs are cancelled, or drained, after this time and go on.
    Stopped(&'static str, Duration),
}

/// Where the threads of one seed are kept, and how.
struct Place {
    folder: tempfile::TempDir,
    durability: &'static str,
    /// How many checkpoints are kept; 0 for all.
    keep: u64,
    /// The server, if they are not in the folder.
    address: Option<String>,
}

impl Place {
    fn new(durability: &'static str, server: Option<&TestServer>) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            durability,
            keep: 0,
            address: server.map(|server| server.database().unwrap()),
        }
    }
}

#[test]
fn killed_runs_continue_as_if_nothing_had_happened() {
    many(number("LYCEUM_CRASH_SEEDS", 20), None);
}

/// The process is killed, the server stays, and with it the leases of the dead.
#[test]
fn killed_runs_continue_on_a_server_as_in_a_file() {
    let server = TestServer::start().unwrap();
    many(number("LYCEUM_CRASH_POSTGRES_SEEDS", 3), Some(&server));
}

fn many(seeds: u64, server: Option<&TestServer>) {
    let first = number("LYCEUM_CRASH_FIRST", 0);
    let where_ = server.map_or("a file", |_| "a server");
    let place = Place::new("sync", server);
    let start = Instant::now();
    let (status, said) = live(&place, End::Natural);
    let natural = start.elapsed();
    assert!(status.success(), "it fails when nobody kills it: {said}");
    let reference = judged(&place, 0).story;
    assert_eq!(reference.ends.len(), 4, "every thread ends");
    assert_eq!(
        reference.effects.len(),
        4 * EFFECTS,
        "every effect takes place"
    );
    let (mut kills, mut repeated) = (0, 0);
    for seed in first..first + seeds {
        println!("seed {seed} in {where_}");
        let (died, judged) = one(seed, natural, &reference, server);
        kills += died;
        repeated += judged.repeated;
    }
    println!(
        "{kills} kills in {seeds} seeds in {where_}; {repeated} effects repeated before their record"
    );
    // Of few seeds all may end before their time.
    assert!(kills > 0 || seeds < 10, "nobody was killed");
}

/// Lives until it has ended well; says how often it was killed.
fn one(
    seed: u64,
    natural: Duration,
    reference: &Story,
    server: Option<&TestServer>,
) -> (u64, Judged) {
    let mut dice = Dice(seed);
    let durability = ["sync", "async", "exit"][dice.below(3) as usize];
    let mut place = Place::new(durability, server);
    place.keep = [0, 0, 1, 5][dice.below(4) as usize];
    let (mut kills, mut disturbed) = (0, 0);
    for _ in 0..=dice.below(4) {
        disturbed += 1;
        let end = match dice.below(6) {
            0 | 1 => End::After(natural.mul_f64(dice.early())),
            2 | 3 => {
                let (point, arrivals) = FAILPOINTS[dice.below(FAILPOINTS.len() as u64) as usize];
                End::At(point, (arrivals as f64 * dice.early()) as u64 + 1)
            }
            4 => {
                let how = ["cancel", "drain"][dice.below(2) as usize];
                End::Stopped(how, natural.mul_f64(dice.early()))
            }
            _ => End::LostReply((180.0 * dice.early()) as u64 + 1),
        };
        println!("  {durability}, keep {}, {end:?}", place.keep);
        let (status, said) = live(&place, end);
        // The later a failpoint, the more lives end before they get there.
        let was_killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(9);
        assert!(
            was_killed || status.success(),
            "seed {seed}: {status}: {said}"
        );
        kills += u64::from(was_killed);
    }
    let (status, said) = live(&place, End::Natural);
    assert!(status.success(), "seed {seed}: {status}: {said}");
    let judged = judged(&place, seed);
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
fn live(place: &Place, end: End) -> (ExitStatus, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_graph-crash"));
    command.arg(place.folder.path()).arg(place.durability);
    command.arg(place.keep.to_string()).args(&place.address);
    command.env_remove(FAILPOINT).env_remove(STOP);
    match end {
        End::Stopped(how, time) => {
            command.env(STOP, format!("{how}:{}", time.as_millis()));
        }
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

/// Judges a seed, and looks for every acknowledged checkpoint where it was stored.
fn judged(place: &Place, seed: u64) -> Judged {
    let entries = read(&place.folder.path().join("ledger")).unwrap();
    let judged = judge(&entries).unwrap_or_else(|wrong| {
        let told = entries.iter().map(|entry| format!("{entry:?}\n"));
        panic!("seed {seed}: {wrong}\n{}", told.collect::<String>())
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let Some(address) = &place.address else {
            let store = file(place.folder.path()).unwrap();
            find_stored(&store, &judged, place.keep, seed).await;
            return store.close().await;
        };
        let store = PostgresStore::open(address, PostgresOptions::default()).await;
        find_stored(&store.unwrap(), &judged, place.keep, seed).await;
    });
    judged
}

async fn find_stored(store: &dyn Saver, judged: &Judged, keep: u64, seed: u64) {
    for (name, acknowledged) in &judged.stored {
        let thread = ThreadId::new(name).unwrap();
        let heads = store.history(&thread, "", None, usize::MAX).await.unwrap();
        let missing: Vec<_> = acknowledged
            .iter()
            // Where older ones are removed, the newest is there.
            .filter(|id| keep == 0 || acknowledged.last() == Some(id))
            .filter(|id| heads.iter().all(|head| head.id.0 != **id))
            .collect();
        assert!(
            missing.is_empty(),
            "seed {seed}: checkpoints {missing:?} of {name} were acknowledged and are lost"
        );
        assert!(
            keep == 0 || heads.len() as u64 <= 2 * keep + 1,
            "seed {seed}: {} checkpoints of {name} are left",
            heads.len()
        );
    }
}

fn file(folder: &Path) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(folder.join("graph.db"), SqliteOptions::default())
}

#[test]
fn a_second_process_is_told_that_the_file_is_taken() {
    let place = Place::new("sync", None);
    let folder = place.folder.path();
    let store = file(folder).unwrap();
    let again = file(folder);
    assert!(matches!(again, Err(OpenError::Locked { .. })), "{again:?}");
    let (status, said) = live(&place, End::Natural);
    assert!(!status.success());
    assert!(said.contains("another process uses it"), "{said}");
    let entries = read(&folder.join("ledger")).unwrap();
    assert_eq!(entries.len(), 1, "it ran nothing: {entries:?}");
    drop(store);
}

#[test]
fn of_two_processes_started_at_once_one_runs() {
    let place = Place::new("sync", None);
    let (one, other) = thread::scope(|scope| {
        let other = scope.spawn(|| live(&place, End::Natural));
        let one = live(&place, End::Natural);
        (one, other.join().unwrap())
    });
    let won = [&one, &other].map(|(status, _)| status.success());
    assert!(won[0] || won[1], "nobody ran: {one:?}, {other:?}");
    for (_, said) in [&one, &other]
        .iter()
        .filter(|(status, _)| !status.success())
    {
        assert!(said.contains("another process uses it"), "{said}");
    }
    let judged = judged(&place, 0);
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
