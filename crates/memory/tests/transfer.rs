//! Importing files that are not what an export wrote.

use lyceum_core::{Scope, SessionId};
use lyceum_memory::{
    InMemory, MemoryStore, SessionStore,
    transfer::{TransferError, import},
};

const SESSION: &str = r#"{"type":"session","id":"s","topic":"t","messages":9,"summary":null,"completed":false,"created_at":1,"updated_at":1}"#;
const MESSAGE: &str =
    r#"{"type":"message","seq":7,"turn_id":"t1","role":"user","content":"hi","created_at":1}"#;
const MEMORY: &str = r#"{"type":"memory","id":"m","kind":"fact","topic":"t","text":"x","importance":0.5,"session":null,"created_at":1}"#;

async fn read(lines: &[&str]) -> (InMemory, Result<(), TransferError>) {
    let (store, text) = (InMemory::default(), lines.join("\n"));
    let result = import(&store, &store, &Scope::local(), &mut text.as_bytes()).await;
    (store, result.map(drop))
}

#[tokio::test]
async fn what_stands_before_a_bad_line_is_kept() {
    let (store, result) = read(&[SESSION, MESSAGE, MEMORY, "{\"type\":\"mess"]).await;
    assert!(
        matches!(result, Err(TransferError::Line { line: 4, .. })),
        "{result:?}"
    );
    let sessions = store.sessions(&Scope::local(), None, 9).await.unwrap();
    assert_eq!(sessions[0].messages, 1, "counted, not believed");
    let memories = store.list(&Scope::local(), None, 9).await.unwrap();
    assert_eq!(memories.len(), 1);
}

#[tokio::test]
async fn strays_bad_ids_and_huge_lines_are_refused() {
    let (_, result) = read(&[MESSAGE]).await;
    assert!(
        matches!(result, Err(TransferError::Stray { line: 1 })),
        "{result:?}"
    );
    let (_, result) = read(&[SESSION, MEMORY, MESSAGE]).await;
    assert!(
        matches!(result, Err(TransferError::Stray { line: 3 })),
        "{result:?}"
    );
    let (_, result) = read(&[&SESSION.replace("\"s\"", "\"../s\"")]).await;
    assert!(
        matches!(result, Err(TransferError::Line { line: 1, .. })),
        "{result:?}"
    );
    let (_, result) = read(&[SESSION, &MESSAGE.replace("hi", &"x".repeat(7_000_000))]).await;
    assert!(
        matches!(result, Err(TransferError::TooLarge { line: 2 })),
        "{result:?}"
    );
    let (_, result) = read(&[]).await;
    assert!(result.is_ok());
}

#[tokio::test]
async fn the_longest_message_survives_whatever_it_is_made_of() {
    let limits = lyceum_memory::Limits::default();
    let content = "\u{0}".repeat(limits.message_bytes);
    let message = serde_json::to_string(&content).unwrap();
    let line = MESSAGE.replace("\"hi\"", &message);
    assert!(line.len() > 6 * limits.message_bytes);
    let (store, result) = read(&[SESSION, &line]).await;
    assert!(result.is_ok(), "{result:?}");
    let scope = Scope::local().with_session(SessionId::new("s").unwrap());
    let messages = store.messages(&scope, None, 9).await.unwrap();
    assert_eq!(messages[0].content, content);
}
