//! A private PostgreSQL server for tests, on a free port, as durable as a real one.
//!
//! Invariant: the server and its files end with the process that started them, however that ends:
//! a shell that owns the server waits for the end of its standard input.
//! Deliberately absent: a server of somebody else; tests never share one with anything.

use std::{
    fs, io,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use tempfile::TempDir;

/// The line that brings what is missing.
const INSTALL: &str = "cargo xtask setup";

/// Where Debian keeps the programs, by major version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// Where [`INSTALL`] puts one that has the extension `vector`, from this crate's folder.
const WITH_VECTORS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../.cache/pgvector/pgserver/pginstall/bin"
);

/// The role of the tests: owns its databases, and is no superuser, so that row-level security
/// holds for it.
const ROLE: &str = "lyceum";

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// PostgreSQL is not installed.
    #[error("find PostgreSQL 13 or newer: it is not installed; run `{INSTALL}`")]
    Missing,
    /// The operating system refused something.
    #[error("start a private PostgreSQL")]
    System(#[from] io::Error),
    /// There is none with vectors.
    #[error(
        "find a PostgreSQL with the extension vector: run `{INSTALL}`; there is no wheel for some machines"
    )]
    MissingVectors,
    /// A program of PostgreSQL failed.
    #[error("{doing}: {said}")]
    Refused {
        /// What was tried.
        doing: &'static str,
        /// What it printed.
        said: String,
    },
}

/// A server and its files. Make one per test binary, in a static, and one database per test.
#[derive(Debug)]
pub struct TestServer {
    programs: PathBuf,
    port: u16,
    keeper: Mutex<Keeper>,
    databases: AtomicU32,
    extension: Extension,
    directory: TempDir,
}

/// What each database has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extension {
    None,
    Vector,
}

/// The shell that owns the server: told a line, it answers with one.
#[derive(Debug)]
struct Keeper {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// `$1` is the programs' directory, `$2` the data's, `$3` the port; what follows runs a program
/// as an ordinary user. SIGQUIT is the immediate shutdown: no checkpoint, as in a crash.
const KEEPER: &str = r#"
programs=$1 files=$2 port=$3; shift 3
start() {
    "$@" "$programs/postgres" -D "$files/data" -p "$port" >>"$files/log" 2>&1 </dev/null &
    server=$!
    until sed -n 8p "$files/data/postmaster.pid" 2>/dev/null | grep -q ready; do
        kill -0 $server 2>/dev/null || { echo failed; exit; }
        sleep 0.02
    done
    echo ready
}
stop() { kill -QUIT $server 2>/dev/null; wait $server; rm -f "$files/data/postmaster.pid"; }
start "$@"
while read -r line; do
    case $line in
        stop) stop; echo stopped ;;
        start) start "$@" ;;
    esac
done
stop
rm -rf "$files"
"#;

impl TestServer {
    /// Makes and starts a server; takes a second or two, and blocks for it.
    ///
    /// # Errors
    ///
    /// [`ServerError`]; a missing installation says which line mends it.
    pub fn start() -> Result<Self, ServerError> {
        Self::start_from(find().ok_or(ServerError::Missing)?, Extension::None)
    }

    /// The same with the extension `vector` in each database.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn with_vectors() -> Result<Self, ServerError> {
        let programs = Path::new(WITH_VECTORS).canonicalize();
        let programs = programs.ok().filter(|at| is_whole(at));
        let programs = programs.ok_or(ServerError::MissingVectors)?;
        Self::start_from(programs, Extension::Vector)
    }

    fn start_from(programs: PathBuf, extension: Extension) -> Result<Self, ServerError> {
        let directory = tempfile::Builder::new().prefix("lyceum-pg").tempdir()?;
        let files = directory.path();
        let mut as_user: Vec<String> = Vec::new();
        if fs::metadata("/proc/self")?.uid() == 0 {
            // The server refuses root.
            let user = [
                "setpriv",
                "--reuid=nobody",
                "--regid=nogroup",
                "--clear-groups",
            ];
            as_user = user.map(str::to_owned).to_vec();
            run(
                "give the files away",
                Command::new("chown").arg("nobody").arg(files),
            )?;
        }
        as_user.extend(["env".to_owned(), "LC_ALL=C".to_owned()]);
        as_user.push(format!("HOME={}", files.display()));
        let mut initialise = Command::new(&as_user[0]);
        initialise.args(&as_user[1..]).arg(programs.join("initdb"));
        initialise.args([
            "-U",
            "postgres",
            "--auth=trust",
            "--no-sync",
            "-E",
            "UTF8",
            "-D",
        ]);
        run("make a database", initialise.arg(files.join("data")))?;
        // Durability stays as it is by default: a test of it would mean nothing otherwise.
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\n\
             max_connections = 200\nshared_buffers = 64MB\n",
            files.display()
        );
        let mut configuration = fs::OpenOptions::new()
            .append(true)
            .open(files.join("data/postgresql.conf"))?;
        configuration.write_all(settings.as_bytes())?;
        // Somebody else may take the port before the server does; then another one is free.
        let mut tries = 0;
        let (port, keeper) = loop {
            let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
            let mut keeper = Keeper::spawn(&programs, files, port, &as_user)?;
            match keeper.expect("ready") {
                Ok(()) => break (port, keeper),
                Err(error) if tries == 3 => {
                    let said = fs::read_to_string(files.join("log")).unwrap_or(error.to_string());
                    let doing = "start a private PostgreSQL";
                    return Err(ServerError::Refused { doing, said });
                }
                Err(_) => tries += 1,
            }
        };
        let server = Self {
            programs,
            port,
            keeper: Mutex::new(keeper),
            databases: AtomicU32::new(0),
            extension,
            directory,
        };
        server.psql(&format!("CREATE ROLE {ROLE} LOGIN"))?;
        Ok(server)
    }

    /// Makes an empty database and gives its address; its owner is no superuser.
    ///
    /// # Errors
    ///
    /// [`ServerError::Refused`] with what the server said.
    pub fn database(&self) -> Result<String, ServerError> {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql(&format!("CREATE DATABASE {name} OWNER {ROLE}"))?;
        if self.extension == Extension::Vector {
            self.psql_in(&name, "CREATE EXTENSION vector")?;
        }
        let port = self.port;
        Ok(format!("postgresql://{ROLE}@127.0.0.1:{port}/{name}"))
    }

    /// The port on the loopback address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends the server as a crash would, and returns when it has ended.
    ///
    /// # Errors
    ///
    /// [`ServerError`] when its keeper is gone.
    pub fn crash(&self) -> Result<(), ServerError> {
        self.tell("stop", "stopped")
    }

    /// Starts the server after [`crash`](Self::crash), and returns when it takes connections.
    ///
    /// # Errors
    ///
    /// [`ServerError`] when it does not start.
    pub fn restart(&self) -> Result<(), ServerError> {
        self.tell("start", "ready")
    }

    /// Runs a statement as the superuser.
    ///
    /// # Errors
    ///
    /// [`ServerError::Refused`] with what the server said.
    pub fn psql(&self, sql: &str) -> Result<(), ServerError> {
        self.psql_in("postgres", sql)
    }

    fn psql_in(&self, database: &str, sql: &str) -> Result<(), ServerError> {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args([
            "-X",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-h",
            "127.0.0.1",
        ]);
        let port = self.port.to_string();
        run(
            "run a statement",
            psql.args(["-p", &port, "-d", database, "-c", sql]),
        )
    }

    fn tell(&self, line: &str, answer: &str) -> Result<(), ServerError> {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(input) = &mut keeper.input {
            writeln!(input, "{line}")?;
        }
        keeper.expect(answer)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let keeper = self
            .keeper
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        keeper.input = None;
        let _ended = keeper.child.wait();
        // The directory itself is removed after this.
        tracing::debug!(directory = %self.directory.path().display(), "the server has ended");
    }
}

impl Keeper {
    fn spawn(
        programs: &Path,
        files: &Path,
        port: u16,
        as_user: &[String],
    ) -> Result<Self, ServerError> {
        let mut child = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(programs)
            .arg(files)
            .arg(port.to_string())
            .args(as_user)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let piped = || io::Error::other("the keeper has no pipes");
        let output = BufReader::new(child.stdout.take().ok_or_else(piped)?);
        let input = child.stdin.take();
        Ok(Self {
            child,
            input,
            output,
        })
    }

    fn expect(&mut self, answer: &str) -> Result<(), ServerError> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        match line.trim() == answer {
            true => Ok(()),
            false => Err(ServerError::Refused {
                doing: "run a private PostgreSQL",
                said: format!("it says {line:?}, not {answer:?}"),
            }),
        }
    }
}

fn run(doing: &'static str, command: &mut Command) -> Result<(), ServerError> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ServerError::Refused { doing, said })
}

fn is_whole(at: &Path) -> bool {
    let programs = ["initdb", "postgres", "psql"];
    programs.iter().all(|program| at.join(program).is_file())
}

/// The newest installation that the machine has.
fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).find(|at| is_whole(at));
    let version = |at: &PathBuf| at.file_name()?.to_str()?.parse::<u32>().ok();
    let entries = fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let mut debian: Vec<_> = entries.map(|entry| entry.path()).collect();
    debian.sort_by_key(version);
    let mut debian = debian.into_iter().rev().map(|at| at.join("bin"));
    on_path.or_else(|| debian.find(|at| is_whole(at)))
}
