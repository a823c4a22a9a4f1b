//! Two processes on the same threads: each thread has one writer, claims and whole runs alike.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use lyceum_graph::{
    Batch, Claim, Context, END, GraphBuilder, NodeError, RunConfig, RunError, START, Saver as _,
    SaverError, State, ThreadId,
};
use lyceum_store_postgres::PostgresStore;
use tokio::sync::watch;

use crate::{SERVER, options};

const CHILD: &str = "LYCEUM_RACE_CHILD";
const THREADS: usize = 40;

#[test]
fn of_two_processes_exactly_one_writes_a_thread() {
    match env::var(CHILD) {
        Ok(address) => claim_all(&address),
        Err(_) => race("of_two_processes_exactly_one_writes_a_thread"),
    }
}

#[test]
fn of_two_processes_exactly_one_runs_a_graph_on_a_thread() {
    match env::var(CHILD) {
        Ok(address) => run_all(&address),
        Err(_) => race("of_two_processes_exactly_one_runs_a_graph_on_a_thread"),
    }
}

/// Starts a test twice, as two children, and lets them go at once.
fn race(test: &str) {
    let address = SERVER.database().unwrap();
    let mut children = [0, 1].map(|_| Racer::start(&address, test));
    for child in &mut children {
        assert_eq!(child.line(), "ready");
    }
    for child in &mut children {
        writeln!(child.input, "go").unwrap();
    }
    let mut won = [0, 0];
    let told = children.each_mut().map(Racer::threads);
    for thread in 0..THREADS {
        let pair = told.each_ref().map(|told| told[&thread].as_str());
        let is_one = pair == ["won", "busy"] || pair == ["busy", "won"];
        assert!(is_one, "thread {thread}: {pair:?}");
        won[usize::from(pair[1] == "won")] += 1;
    }
    println!("{won:?}");
    for child in children {
        child.end();
    }
}

struct Racer {
    child: Child,
    input: ChildStdin,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Racer {
    fn start(address: &str, test: &str) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", &format!("processes::{test}")])
            .arg("--nocapture")
            .env(CHILD, address)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let input = child.stdin.take().unwrap();
        Self {
            child,
            input,
            lines,
        }
    }

    /// The next thing the child tells; the test harness talks on the same stream.
    fn line(&mut self) -> String {
        loop {
            let line = self.lines.next().unwrap().unwrap();
            if let Some((_, told)) = line.split_once("told: ") {
                return told.to_owned();
            }
        }
    }

    /// What it tells of each thread.
    fn threads(&mut self) -> BTreeMap<usize, String> {
        let told = (0..THREADS).map(|_| {
            let line = self.line();
            let (thread, what) = line.split_once(' ').unwrap();
            (thread.parse().unwrap(), what.to_owned())
        });
        told.collect()
    }

    fn end(mut self) {
        drop(self.input);
        assert!(self.child.wait().unwrap().success());
    }
}

/// The child: claims every thread and writes those it won.
fn claim_all(address: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let tell = |what: &str| println!("\ntold: {what}");
    runtime.block_on(async {
        let store = PostgresStore::open(address, options()).await.unwrap();
        tell("ready");
        let mut input = std::io::stdin().lock().lines();
        assert_eq!(input.next().unwrap().unwrap(), "go");
        for n in 0..THREADS {
            let thread = ThreadId::new(format!("race/{n}")).unwrap();
            let lease = store.acquire(&thread, Duration::from_secs(60), Claim::IfFree);
            match lease.await {
                Ok(lease) => {
                    store.commit(&lease, &Batch::default()).await.unwrap();
                    tell(&format!("{n} won"));
                }
                Err(SaverError::Busy { .. }) => tell(&format!("{n} busy")),
                Err(error) => tell(&format!("{n} {error:?}")),
            }
        }
        assert!(input.next().is_none());
    });
}

#[derive(State, Clone, Debug, Default)]
struct Log {
    #[state(append)]
    steps: Vec<u64>,
}

/// What the runs of a child share: the end of its input, when both have told of all threads.
type Ends = watch::Receiver<bool>;

/// Tells that its process has the thread, and keeps it until the other one was there too.
async fn first(log: Arc<Log>, ctx: Context<(usize, Ends)>) -> Result<LogUpdate, NodeError> {
    let (n, ends) = &**ctx.shared();
    println!("\ntold: {n} won");
    let ended = ends.clone().wait_for(|ended| *ended).await.map(|_| ());
    ended.map_err(NodeError::permanent)?;
    step(log, ctx).await
}

async fn step(log: Arc<Log>, _: Context<(usize, Ends)>) -> Result<LogUpdate, NodeError> {
    Ok(LogUpdate::new().steps([log.steps.len() as u64]))
}

/// The child: runs a graph on every thread, all at once.
fn run_all(address: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Arc::new(PostgresStore::open(address, options()).await.unwrap());
        let graph = GraphBuilder::new()
            .node("first", first)
            .node("second", step)
            .node("third", step)
            .edge(START, "first")
            .edge("first", "second")
            .edge("second", "third")
            .edge("third", END)
            .compile()
            .unwrap();
        println!("\ntold: ready");
        let mut go = String::new();
        std::io::stdin().read_line(&mut go).unwrap();
        assert_eq!(go, "go\n");
        let (end, ends) = watch::channel(false);
        std::thread::spawn(move || {
            assert!(std::io::stdin().lines().next().is_none());
            end.send_replace(true);
        });
        let runs = (0..THREADS).map(|n| {
            let id = ThreadId::new(format!("run/{n}")).unwrap();
            let thread = graph.thread(store.clone(), id);
            let config = RunConfig::new((n, ends.clone()));
            async move {
                match thread.run(Log::default(), config).await {
                    Ok(output) => assert_eq!(output.state.steps, [0, 1, 2]),
                    Err(RunError::Saver(SaverError::Busy { .. })) => println!("\ntold: {n} busy"),
                    Err(error) => println!("\ntold: {n} {error:?}"),
                }
                thread
            }
        });
        for thread in futures_util::future::join_all(runs).await {
            // Whoever ran it: the record is of one run. The other process may not be done.
            let snapshot = thread.snapshot(None).await.unwrap().unwrap();
            let steps = &snapshot.state.steps;
            assert!([0, 1, 2].starts_with(steps), "{steps:?}");
        }
    });
}
