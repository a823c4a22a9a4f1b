//! `lyceum memory`: checks, mends, moves and forgets what is stored.
//!
//! Invariant: over the embedded stores it runs only while no server does, as both lock the file;
//! over PostgreSQL it runs beside servers. Nothing is erased without `--yes`.

use std::{
    fs::{File, OpenOptions},
    io::{BufReader, BufWriter},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::{Context, Result, bail};
use lyceum_core::{AgentId, Scope, TenantId, UserId};
use lyceum_memory::{Checked, Erased, MemoryConfig, SessionCursor, Whose, transfer};

use crate::{
    banner,
    cli::{EraseOptions, MemoryCommand, Owner, StoreOptions},
    config::{self, Resolved},
    meaning,
    store::Store,
};

/// Sessions and owners read at a time.
const PAGE: usize = 200;

/// Runs the command.
///
/// # Errors
///
/// When the store cannot be opened, fails, or is found unsound.
pub(crate) async fn run(command: &MemoryCommand) -> Result<()> {
    match command {
        MemoryCommand::Verify(options) => on(options, verify).await,
        MemoryCommand::Rebuild(options) => on(options, rebuild).await,
        MemoryCommand::Export {
            store,
            owner,
            output,
        } => on(store, async |store, _| export(store, owner, output).await).await,
        MemoryCommand::Import {
            store,
            owner,
            input,
        } => on(store, async |store, _| import(store, owner, input).await).await,
        MemoryCommand::Erase(options) => {
            if !options.yes {
                bail!("erasing cannot be undone: repeat the command with --yes");
            }
            on(&options.store, async |store, _| erase(store, options).await).await
        }
    }
}

/// Does something with the store that the configuration names, and closes it.
async fn on(
    options: &StoreOptions,
    act: impl AsyncFnOnce(&Store, &Resolved) -> Result<()>,
) -> Result<()> {
    let settings = config::load(options.config.as_deref(), options.overrides())?;
    let resolved = config::resolve(settings)?;
    let (store, place) = Store::open(&resolved).await?;
    banner::say(&format!("Store: {place}"))?;
    let done = act(&store, &resolved).await;
    store.close().await;
    done
}

async fn verify(store: &Store, resolved: &Resolved) -> Result<()> {
    let mut found = Checked::default();
    for check in store.checks() {
        found.add(check.verify().await?);
    }
    banner::say(&format!(
        "{} owners, {} sessions, {} messages, {} memories",
        found.owners, found.sessions, found.messages, found.memories
    ))?;
    let missed = missed(store, resolved).await?;
    for fault in &found.described {
        banner::say(&format!("- {fault}"))?;
    }
    match found.faults + missed {
        0 => banner::say("Sound."),
        1 => bail!("1 fault: `lyceum memory rebuild` makes what follows from the rows anew"),
        faults => {
            bail!("{faults} faults: `lyceum memory rebuild` makes what follows from the rows anew")
        }
    }
}

/// Says how far the vectors are, and gives how many memories would never get theirs.
async fn missed(store: &Store, resolved: &Resolved) -> Result<u64> {
    let config = &resolved.config;
    let encoder = meaning::encoder(&config.memory.encoder);
    if encoder.is_none() && config.memory.encoder != "off" {
        let name = &config.memory.encoder;
        bail!("the vectors cannot be looked at: memory.encoder {name:?} cannot be opened");
    }
    let memory = store.memory(MemoryConfig::default(), encoder, &config.vectors)?;
    let Some(arm) = memory.meaning() else {
        return Ok(0);
    };
    let count = arm.store().count_vectors(arm.space()).await?;
    banner::say(&format!(
        "{} of {} memories have had their turn at the encoder, {} have a vector",
        count.settled, count.memories, count.vectors
    ))?;
    if count.missed > 0 {
        let missed = count.missed;
        banner::say(&format!(
            "- vectors: {missed} are missing and would not be made"
        ))?;
    }
    Ok(count.missed)
}

async fn rebuild(store: &Store, resolved: &Resolved) -> Result<()> {
    for check in store.checks() {
        check.rebuild().await?;
    }
    if missed(store, resolved).await? > 0 {
        let config = &resolved.config;
        let encoder = meaning::encoder(&config.memory.encoder);
        let memory = store.memory(MemoryConfig::default(), encoder, &config.vectors)?;
        if let Some(arm) = memory.meaning() {
            arm.store().forget_vectors(arm.space()).await?;
            banner::say("The server makes all vectors again once it runs.")?;
        }
    }
    banner::say("Made anew.")
}

fn scope(owner: &Owner) -> Result<Scope> {
    let mut scope = Scope::local();
    if let Some(tenant) = &owner.tenant {
        scope.tenant = TenantId::new(tenant).context("--tenant")?;
    }
    if let Some(user) = &owner.user {
        scope.user = UserId::new(user).context("--user")?;
    }
    if let Some(agent) = &owner.agent {
        scope.agent = AgentId::new(agent).context("--agent")?;
    }
    Ok(scope)
}

/// The file is its owner's alone: it holds all that somebody said.
async fn export(store: &Store, owner: &Owner, output: &Path) -> Result<()> {
    let named = || format!("write {}", output.display());
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = BufWriter::new(options.open(output).with_context(named)?);
    let ports = store.ports();
    let (sessions, memories) = (&*ports.sessions, &*ports.memories);
    let moved = transfer::export(sessions, memories, &scope(owner)?, &mut file).await?;
    let file = file.into_inner().map_err(|error| error.into_error());
    file.and_then(|file| file.sync_all()).with_context(named)?;
    banner::say(&format!(
        "Exported {} sessions of {} messages and {} memories.",
        moved.sessions, moved.messages, moved.memories
    ))
}

async fn import(store: &Store, owner: &Owner, input: &Path) -> Result<()> {
    let file = File::open(input).with_context(|| format!("read {}", input.display()))?;
    let (archive, ports) = (store.archive(), store.ports());
    let mut lines = BufReader::new(file);
    let memories = &*ports.memories;
    let moved = transfer::import(&*archive, memories, &scope(owner)?, &mut lines).await?;
    banner::say(&format!(
        "Imported {} sessions of {} messages and {} memories that were not there.",
        moved.sessions, moved.messages, moved.memories
    ))
}

async fn erase(store: &Store, options: &EraseOptions) -> Result<()> {
    let whose = Whose {
        tenant: TenantId::new(&options.tenant).context("--tenant")?,
        user: match &options.user {
            Some(user) => Some(UserId::new(user).context("--user")?),
            None => None,
        },
    };
    forget_knowledge(store, &whose).await?;
    let mut erased = Erased::default();
    for check in store.checks() {
        let more = check.erase(&whose).await?;
        erased.sessions += more.sessions;
        erased.memories += more.memories;
    }
    banner::say(&format!(
        "Erased {} sessions and {} memories.",
        erased.sessions, erased.memories
    ))
}

/// What was taught in each conversation stands on a thread of its own.
async fn forget_knowledge(store: &Store, whose: &Whose) -> Result<()> {
    let (checks, ports) = (store.checks(), store.ports());
    let Some(check) = checks.first() else {
        return Ok(());
    };
    let mut after = None;
    loop {
        let owners = check.owners(after.as_ref(), PAGE).await?;
        let Some(last) = owners.last() else {
            return Ok(());
        };
        after = Some(last.clone());
        for owner in owners.into_iter().filter(|owner| whose.has(owner)) {
            let mut cursor: Option<SessionCursor> = None;
            loop {
                let sessions = ports
                    .sessions
                    .sessions(&owner, cursor.as_ref(), PAGE)
                    .await?;
                let Some(last) = sessions.last() else { break };
                cursor = Some(SessionCursor::from(last));
                for session in sessions {
                    let scope = owner.clone().with_session(session.id);
                    lyceum_agents::forget_knowledge(store.saver(), &scope).await?;
                }
            }
        }
    }
}
