//! Two processes on the same threads: each thread has one writer.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use lyceum_graph::{Batch, Claim, Saver as _, SaverError, ThreadId};
use lyceum_store_postgres::PostgresStore;

use crate::{SERVER, options};

const CHILD: &str = "LYCEUM_RACE_CHILD";
const THREADS: usize = 40;

#[test]
fn of_two_processes_exactly_one_writes_a_thread() {
    if let Ok(address) = env::var(CHILD) {
        claim_all(&address);
        return;
    }
    let address = SERVER.database().unwrap();
    let mut children = [0, 1].map(|_| Racer::start(&address));
    for child in &mut children {
        assert_eq!(child.line(), "ready");
    }
    for child in &mut children {
        writeln!(child.input, "go").unwrap();
    }
    let [one, two] = &mut children;
    let mut won = [0, 0];
    for thread in 0..THREADS {
        match (one.line().as_str(), two.line().as_str()) {
            ("won", "busy") => won[0] += 1,
            ("busy", "won") => won[1] += 1,
            other => panic!("thread {thread}: {other:?}"),
        }
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
    fn start(address: &str) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "processes::of_two_processes_exactly_one_writes_a_thread",
            ])
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
        for thread in 0..THREADS {
            let thread = ThreadId::new(format!("race/{thread}")).unwrap();
            let lease = store.acquire(&thread, Duration::from_secs(60), Claim::IfFree);
            match lease.await {
                Ok(lease) => {
                    store.commit(&lease, &Batch::default()).await.unwrap();
                    tell("won");
                }
                Err(SaverError::Busy { .. }) => tell("busy"),
                Err(error) => tell(&format!("{error:?}")),
            }
        }
        assert!(input.next().is_none());
    });
}
