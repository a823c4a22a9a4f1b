//! A session manager over a folder of JSON files: conversations are opened, continued, listed,
//! completed and cleaned up, and another process finds them as they were.
//!
//! ```console
//! cargo run -p lyceum-examples --example session_manager
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Result;
use lyceum_core::{Role, Scope, SessionId, UserId};
use lyceum_memory::{
    ManualClock, NewMessage, NewTurn, SessionArchive as _, SessionCursor, SessionStore, Timestamp,
    TurnId,
};
use lyceum_store_json::JsonStore;

fn turn(id: &str, said: &str, answered: &str) -> Result<NewTurn> {
    let message = |role, text: &str| NewMessage {
        role,
        content: text.to_owned(),
    };
    Ok(NewTurn {
        // Chosen by the caller, so that a turn that is sent again is known.
        turn_id: TurnId::new(id)?,
        topic: said.to_owned(),
        messages: vec![
            message(Role::User, said),
            message(Role::Assistant, answered),
        ],
        memories: Vec::new(),
        jobs: Vec::new(),
    })
}

/// All sessions of a user, newest first, two at a time: a page begins where the last one ended,
/// so no page costs more for those before it.
async fn list(store: &JsonStore, user: &Scope) -> Result<Vec<String>> {
    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let page = store.sessions(user, after.as_ref(), 2).await?;
        let Some(last) = page.last() else {
            return Ok(names);
        };
        after = Some(SessionCursor::from(last));
        names.extend(page.into_iter().map(|session| session.id.to_string()));
    }
}

fn open(folder: &Path, clock: &Arc<ManualClock>) -> Result<JsonStore> {
    Ok(JsonStore::with_clock(folder, clock.clone())?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // A program uses `JsonStore::open`; here an hour has to pass in an instant.
    let clock = Arc::new(ManualClock::at(Timestamp(1_700_000_000_000)));
    let user = Scope {
        user: UserId::new("ada")?,
        ..Scope::local()
    };
    let session =
        |name: &str| Ok::<_, anyhow::Error>(user.clone().with_session(SessionId::new(name)?));

    let store = open(folder.path(), &clock)?;
    for name in ["tides", "gravity", "bread"] {
        let first = turn("turn-1", name, "Tell me more.")?;
        store.append(&session(name)?, &first).await?;
        clock.advance(Duration::from_secs(1));
    }
    let again = turn("turn-1", "tides", "Tell me more.")?;
    let saved = store.append(&session("tides")?, &again).await?;
    assert!(
        saved.replayed,
        "a client that lost the answer may repeat itself"
    );
    let names = list(&store, &user).await?;
    println!("sessions: {}", names.join(", "));
    assert_eq!(names, ["bread", "gravity", "tides"]);

    drop(store);
    let store = open(folder.path(), &clock)?;
    let second = turn("turn-2", "The Moon pulls the sea.", "Why twice a day?")?;
    store.append(&session("tides")?, &second).await?;
    let last = store.messages(&session("tides")?, None, 3).await?;
    println!("the last messages on tides, after a restart:");
    for message in &last {
        println!(
            "  {}. {}: {}",
            message.seq,
            message.role.as_str(),
            message.content
        );
    }
    assert_eq!(
        last.iter().map(|message| message.seq).collect::<Vec<_>>(),
        [2, 3, 4]
    );

    let stranger = Scope::local().with_session(SessionId::new("tides")?);
    assert!(store.messages(&stranger, None, 3).await?.is_empty());

    // What is over and was left alone for half an hour is cleaned up; what goes on is kept.
    store.complete(&session("tides")?).await?;
    store.complete(&session("bread")?).await?;
    let more = turn("turn-2", "Yeast makes it rise.", "What does yeast eat?")?;
    clock.advance(Duration::from_secs(3_600));
    store.append(&session("bread")?, &more).await?;
    let removed = store.expire(Duration::from_secs(1_800), 100).await?.len();
    println!("cleaned up: {removed}");
    assert_eq!((removed, list(&store, &user).await?.len()), (1, 2));

    // A session is one file and can be handed over: to another user, or another store.
    let bread = store.session(&session("bread")?).await?;
    let messages = store.messages(&session("bread")?, None, 100).await?;
    if let Some(bread) = bread {
        let mut other = session("bread")?;
        other.user = UserId::new("bob")?;
        assert!(store.restore(&other, &bread, &messages).await?);
        assert_eq!(store.messages(&other, None, 100).await?.len(), 4);
    }
    Ok(())
}
