//! Keeps what was used today and this month over a restart, in a small file of the data
//! directory.
//!
//! Invariant: the file is replaced whole or not at all. What was spent since the last
//! write, ten seconds at most, is lost with a process that is killed.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use lyceum_core::{TenantId, UserId};
use lyceum_llm::{Book, Entry, Ledger, PicoUsd, Used};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::private_file;

const FILE: &str = "spend.toml";
const EVERY: Duration = Duration::from_secs(10);

/// The file as it was before there were accounts: a day, counted from 1970 in UTC, and the
/// tenants' sums in picodollars.
#[derive(Debug, Deserialize)]
struct Sums {
    day: u64,
    tenants: BTreeMap<TenantId, PicoUsd>,
}

impl From<Sums> for Book {
    fn from(sums: Sums) -> Self {
        let entry = |(tenant, spent)| {
            let used = Used {
                spent,
                ..Used::default()
            };
            Entry {
                tenant,
                user: None,
                today: used,
                month: used,
            }
        };
        Self {
            day: sums.day,
            entries: sums.tenants.into_iter().map(entry).collect(),
        }
    }
}

/// Takes over what the file says of today and this month. A file that cannot be read is said
/// and left.
pub(crate) fn restore(dir: &Path, ledger: &Ledger) {
    let path = dir.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            tracing::warn!(%error, "cannot read what was spent");
            return;
        }
    };
    match parse(&text) {
        Ok(book) => ledger.restore(book),
        Err(error) => tracing::warn!(error = error.message(), "cannot read what was spent"),
    }
}

/// What the file says, in the form of today or in the older one.
fn parse(text: &str) -> Result<Book, toml::de::Error> {
    let sums = toml::from_str::<Sums>(text).map(Book::from);
    sums.or_else(|_| toml::from_str(text))
}

/// Writes what is spent and tells the metrics, now and then, until it is cancelled, and writes
/// once more then.
pub(crate) async fn keep(dir: PathBuf, ledger: Ledger, stop: CancellationToken) {
    let mut written = None;
    loop {
        ledger.publish();
        let goes_on = stop.run_until_cancelled(tokio::time::sleep(EVERY)).await;
        let now = ledger.book();
        if !now.entries.is_empty() && written.as_ref() != Some(&now) {
            match write(&dir, &now) {
                Ok(()) => written = Some(now),
                Err(error) => tracing::warn!(%error, "cannot keep what was spent"),
            }
        }
        if goes_on.is_none() {
            return;
        }
    }
}

fn write(dir: &Path, book: &Book) -> io::Result<()> {
    let text = toml::to_string(book).map_err(io::Error::other)?;
    // It names users.
    private_file::replace(&dir.join(FILE), |made| made.write_all(text.as_bytes()))
}

/// Forgets what a tenant, or one of its users, has used. A running server, which there is
/// only over a store that servers share, writes what it knows again.
///
/// # Errors
///
/// When the file cannot be read or written.
pub(crate) fn forget(dir: &Path, tenant: &TenantId, user: Option<&UserId>) -> io::Result<()> {
    let text = match fs::read_to_string(dir.join(FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut book = parse(&text).map_err(|error| {
        io::Error::other(format!(
            "{} cannot be read ({}): mend or delete it, and repeat the command",
            dir.join(FILE).display(),
            error.message()
        ))
    })?;
    let is_meant =
        |entry: &Entry| entry.tenant == *tenant && (user.is_none() || entry.user.as_ref() == user);
    book.entries.retain(|entry| !is_meant(entry));
    write(dir, &book)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lyceum_core::{CallContext, Scope};
    use lyceum_llm::Budgets;

    #[tokio::test]
    async fn a_restart_keeps_the_days_sums_and_a_broken_file_is_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(Budgets::default());
        let call = CallContext::new(Scope::local());
        ledger
            .reserve(&call, PicoUsd(9))
            .unwrap()
            .settle(PicoUsd(7));
        let stop = CancellationToken::new();
        stop.cancel();
        keep(dir.path().to_owned(), ledger, stop).await;
        let again = Ledger::new(Budgets::default());
        restore(dir.path(), &again);
        assert_eq!(again.today().spent, PicoUsd(7));
        let day = again.book().day;
        let before = format!("day = {day}\n[tenants]\nschool = 9\n");
        fs::write(dir.path().join(FILE), before).unwrap();
        let older = Ledger::new(Budgets::default());
        restore(dir.path(), &older);
        assert_eq!(older.today().spent, PicoUsd(9));
        fs::write(dir.path().join(FILE), "day = ").unwrap();
        let fresh = Ledger::new(Budgets::default());
        restore(dir.path(), &fresh);
        assert_eq!(fresh.today().spent, PicoUsd(0));
    }

    #[test]
    fn who_is_forgotten_is_in_no_form_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        let school = TenantId::new("school").unwrap();
        forget(dir.path(), &school, None).unwrap();
        fs::write(&file, "day = 1\n[tenants]\nschool = 9\nclub = 1\n").unwrap();
        forget(dir.path(), &school, None).unwrap();
        let left = fs::read_to_string(&file).unwrap();
        assert!(!left.contains("school") && left.contains("club"), "{left}");
        fs::write(&file, "school = ").unwrap();
        let error = forget(dir.path(), &school, None).unwrap_err().to_string();
        assert!(error.contains("mend or delete it"), "{error}");
    }
}
