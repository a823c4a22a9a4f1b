//! `lyceum memory`: checks, mends, moves and forgets what is stored.
//!
//! Invariant: a command that did nothing of what it was asked for fails. Over the embedded stores
//! it runs only while no server does, as both lock the file; over PostgreSQL it runs beside
//! servers. Nothing is erased without `--yes`.

use std::{
    collections::HashSet,
    fs::File,
    io::{BufReader, BufWriter},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use lyceum_agents::{knowledge_thread, sweep_knowledge};
use lyceum_core::{AgentId, Scope, TenantId, UserId};
use lyceum_graph::ThreadId;
use lyceum_memory::{Checked, Erased, MemoryConfig, Session, SessionCursor, Whose, transfer};
use lyceum_observe::Telemetry;
use lyceum_store_sqlite::Unsealed;

use crate::{
    banner,
    cli::{EraseOptions, MemoryCommand, Owner, StoreOptions},
    config::{self, Resolved},
    meaning, private_file, rotate,
    store::Store,
};

/// Sessions and owners read at a time.
const PAGE: usize = 200;

/// How long a thread must not have been written where servers run beside this command.
const BESIDE_SERVERS: Duration = Duration::from_secs(60 * 60);

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
        MemoryCommand::Encrypt(options) => {
            let opened = opened(options, Unsealed::Open).await?;
            opened
                .run(async |store, _| rotate::encrypt(store).await)
                .await
        }
        MemoryCommand::RotateKey(options) => {
            let wrap_only = options.wrap_only;
            on(&options.store, async |store, _| {
                rotate::rotate(store, wrap_only).await
            })
            .await
        }
        MemoryCommand::Erase(options) => {
            if !options.yes {
                bail!("erasing cannot be undone: repeat the command with --yes");
            }
            // One that was cut off has left rows of a tenant that has no key any more.
            let opened = opened(&options.store, Unsealed::Open).await?;
            opened
                .run(async |store, resolved| erase(store, resolved, options).await)
                .await
        }
    }
}

/// Does something with the store that the configuration names, and closes it.
async fn on(
    options: &StoreOptions,
    act: impl AsyncFnOnce(&Store, &Resolved) -> Result<()>,
) -> Result<()> {
    opened(options, Unsealed::Refuse).await?.run(act).await
}

/// A store that a command works on.
struct Opened {
    resolved: Resolved,
    store: Store,
    telemetry: Telemetry,
}

async fn opened(options: &StoreOptions, unsealed: Unsealed) -> Result<Opened> {
    let settings = config::load(options.config.as_deref(), options.overrides())?;
    let resolved = config::resolve(settings)?;
    // What the store logs is told on standard error, from its opening on.
    let telemetry = crate::telemetry(&resolved)?;
    let (store, place) = Store::open_as(&resolved, unsealed).await?;
    banner::say(&format!("Store: {place}"))?;
    Ok(Opened {
        resolved,
        store,
        telemetry,
    })
}

impl Opened {
    async fn run(self, act: impl AsyncFnOnce(&Store, &Resolved) -> Result<()>) -> Result<()> {
        let done = act(&self.store, &self.resolved).await;
        self.store.close().await;
        self.telemetry.stop().await;
        done
    }
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
    let swept = sweep(store).await?;
    if swept > 0 {
        banner::say(&format!(
            "Forgot what was taught in {swept} conversations that are there no longer."
        ))?;
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
    let mut file = BufWriter::new(private_file::create(output).with_context(named)?);
    let ports = store.ports();
    let (sessions, memories) = (&*ports.sessions, &*ports.memories);
    let moved = transfer::export(sessions, memories, &scope(owner)?, &mut file).await?;
    let file = file.into_inner().map_err(|error| error.into_error());
    let synced = file.and_then(|file| private_file::sync(&file, output));
    synced.with_context(named)?;
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

async fn erase(store: &Store, resolved: &Resolved, options: &EraseOptions) -> Result<()> {
    let whose = Whose {
        tenant: TenantId::new(&options.tenant).context("--tenant")?,
        user: match &options.user {
            Some(user) => Some(UserId::new(user).context("--user")?),
            None => None,
        },
    };
    // A server that cannot be reached keeps nothing of the rest.
    let vectors = match store.qdrant(&resolved.config.vectors)? {
        Some(qdrant) => qdrant.erase(&whose).await,
        None => Ok(0),
    };
    let mut erased = Erased::default();
    for check in store.checks() {
        let more = check.erase(&whose).await?;
        erased.sessions += more.sessions;
        erased.memories += more.memories;
        erased.records += more.records;
    }
    // Those of the conversations that are gone now, and of those that went before.
    sweep(store).await?;
    crate::spend::forget(&resolved.data_dir, &whose.tenant, whose.user.as_ref())
        .context("forget what was used")?;
    let is_nothing = erased.is_nothing() && vectors.as_ref().is_ok_and(|count| *count == 0);
    if is_nothing {
        let user = whose.user.as_ref();
        let user = user
            .map(|user| format!(", user {user}"))
            .unwrap_or_default();
        bail!("nothing is stored of tenant {}{user}", whose.tenant);
    }
    banner::say(&format!(
        "Erased {} sessions and {} memories.",
        erased.sessions, erased.memories
    ))?;
    if erased.records > 0 {
        banner::say(&format!("Erased {} records.", erased.records))?;
    }
    let vectors = vectors.context(
        "the rows are erased, their vectors in Qdrant are not: repeat this once it can be reached",
    )?;
    match vectors {
        0 => Ok(()),
        vectors => banner::say(&format!("Erased {vectors} vectors in Qdrant.")),
    }
}

/// The scopes of all conversations.
pub(crate) async fn conversations(store: &Store) -> Result<Vec<Scope>> {
    let (checks, ports) = (store.checks(), store.ports());
    let mut all = Vec::new();
    let Some(check) = checks.first() else {
        return Ok(all);
    };
    let mut after = None;
    loop {
        let owners = check.owners(after.as_ref(), PAGE).await?;
        let Some(last) = owners.last() else {
            return Ok(all);
        };
        after = Some(last.clone());
        for owner in owners {
            let mut cursor: Option<SessionCursor> = None;
            loop {
                let sessions = ports
                    .sessions
                    .sessions(&owner, cursor.as_ref(), PAGE)
                    .await?;
                let Some(last) = sessions.last() else { break };
                cursor = Some(SessionCursor::from(last));
                let of = |session: Session| owner.clone().with_session(session.id);
                all.extend(sessions.into_iter().map(of));
            }
        }
    }
}

/// Forgets what was taught in conversations that are there no longer, and leaves no page of it.
pub(crate) async fn sweep(store: &Store) -> Result<u64> {
    let living = conversations(store).await?;
    let living: HashSet<ThreadId> = living.iter().filter_map(knowledge_thread).collect();
    // A server beside this command may be in the middle of a conversation's first turn.
    let idle = match store {
        Store::Postgres(_) => BESIDE_SERVERS,
        Store::Sqlite(_) | Store::Json(..) => Duration::ZERO,
    };
    let threads = store.threads();
    let swept = sweep_knowledge(&*threads, idle, |thread| living.contains(thread)).await?;
    if swept > 0 {
        for check in store.checks() {
            check.forget_deleted().await?;
        }
    }
    Ok(swept)
}
