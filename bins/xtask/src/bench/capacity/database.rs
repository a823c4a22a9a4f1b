//! A PostgreSQL server for a measurement: started in a folder of its own, and ended with its
//! value.

use std::{
    env,
    ffi::OsString,
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// A PostgreSQL server in a folder of its own.
pub(super) struct Database {
    server: Child,
    home: TempDir,
    programs: PathBuf,
}

impl Database {
    pub(super) fn start() -> Result<Self> {
        crate::setup::postgres()?;
        let programs = installed().context("find PostgreSQL's programs")?;
        // Its user must reach the folder, which the home of a build may not allow.
        let home = tempfile::Builder::new()
            .prefix("lyceum-capacity-")
            .tempdir_in("/var/tmp")?;
        if is_root()? {
            let owned = Command::new("chown")
                .args(["nobody:nogroup"])
                .arg(home.path())
                .status()?;
            if !owned.success() {
                bail!("chown ended with {owned}");
            }
        }
        let data = home.path().join("data");
        let mut init = as_postgres(Command::new(programs.join("initdb")))?;
        init.arg("-D").arg(&data);
        init.args([
            "-U",
            "postgres",
            "--auth=trust",
            "-E",
            "UTF8",
            "--no-locale",
        ]);
        let made = init.stdout(Stdio::null()).status()?;
        if !made.success() {
            bail!("initdb ended with {made}");
        }
        let mut serve = as_postgres(Command::new(programs.join("postgres")))?;
        serve.arg("-D").arg(&data);
        let mut directory = OsString::from("unix_socket_directories=");
        directory.push(home.path());
        serve.args(["-c", "listen_addresses=", "-c"]).arg(directory);
        let server = serve.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let database = Self {
            server,
            home,
            programs,
        };
        let started = Instant::now();
        while database.sql("select 1", "postgres").is_err() {
            if started.elapsed() > Duration::from_secs(30) {
                bail!("PostgreSQL did not start");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        database.sql("create role lyceum login", "postgres")?;
        database.sql("create database lyceum owner lyceum", "postgres")?;
        Ok(database)
    }

    pub(super) fn url(&self) -> String {
        let socket = self.home.path().display().to_string().replace('/', "%2F");
        format!("postgresql://lyceum@{socket}/lyceum")
    }

    fn sql(&self, statement: &str, database: &str) -> Result<String> {
        let output = Command::new(self.programs.join("psql"))
            .args(["-h"])
            .arg(self.home.path())
            .args(["-U", "postgres", "-d", database, "-Atc", statement])
            .output()?;
        if !output.status.success() {
            bail!("psql: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Transactions and bytes of the database.
    pub(super) fn figures(&self) -> Result<[f64; 2]> {
        let committed = "select xact_commit from pg_stat_database where datname = 'lyceum'";
        let size = "select pg_database_size('lyceum')";
        Ok([
            self.sql(committed, "postgres")?.parse()?,
            self.sql(size, "postgres")?.parse()?,
        ])
    }

    /// CPU of all its processes that live.
    pub(super) fn cpu(&self) -> Result<Duration> {
        let mut sum = Duration::ZERO;
        for entry in fs::read_dir("/proc")?.flatten() {
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
                continue;
            };
            let Some((head, fields)) = stat.rsplit_once(')') else {
                continue;
            };
            let fields: Vec<&str> = fields.split_whitespace().collect();
            // State, parent, …: utime and stime are the 14th and 15th fields of the file.
            let pid = head.split(' ').next().unwrap_or_default();
            let ours = self.server.id().to_string();
            if pid != ours && fields.get(1) != Some(&ours.as_str()) {
                continue;
            }
            for ticks in fields.iter().skip(11).take(2) {
                sum += Duration::from_millis(10) * ticks.parse::<u32>()?;
            }
        }
        Ok(sum)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // SIGQUIT: what it kept is thrown away.
        let _ = Command::new("kill")
            .args(["-QUIT", &self.server.id().to_string()])
            .status();
        let _ = self.server.wait();
    }
}

fn installed() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut found: Vec<PathBuf> = versions
        .flatten()
        .map(|version| version.path().join("bin"))
        .filter(|bin| bin.join("initdb").is_file())
        .collect();
    found.sort();
    found.pop().or_else(|| {
        let path = env::var_os("PATH")?;
        env::split_paths(&path).find(|bin| bin.join("initdb").is_file())
    })
}

fn is_root() -> Result<bool> {
    let me = fs::metadata("/proc/self")?;
    Ok(std::os::unix::fs::MetadataExt::uid(&me) == 0)
}

/// PostgreSQL refuses to run as root.
fn as_postgres(command: Command) -> Result<Command> {
    if !is_root()? {
        return Ok(command);
    }
    let mut lowered = Command::new("setpriv");
    lowered.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
    lowered.arg(command.get_program()).args(command.get_args());
    lowered.env("LC_ALL", "C").env("HOME", "/var/tmp");
    lowered.current_dir("/var/tmp");
    Ok(lowered)
}
