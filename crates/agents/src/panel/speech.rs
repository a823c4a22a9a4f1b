//! What an agent has said so far, for those who listen while it speaks.
//!
//! Invariant: text is only added, and a speech whose [`Speaking`] is gone is complete, so
//! nobody waits for a speaker that failed.

use tokio::sync::watch;

/// What one agent says in one round.
#[derive(Debug)]
pub(super) struct Speech(watch::Sender<Said>);

#[derive(Debug, Default)]
struct Said {
    text: String,
    complete: bool,
}

impl Default for Speech {
    fn default() -> Self {
        Self(watch::Sender::new(Said::default()))
    }
}

impl Speech {
    /// Takes the floor.
    pub(super) fn begin(&self) -> Speaking<'_> {
        Speaking(self)
    }

    /// What was said once `enough` holds of it, or all of it, and whether it is all.
    pub(super) async fn until(&self, enough: impl Fn(&str) -> bool) -> (String, bool) {
        let mut listener = self.0.subscribe();
        let said = listener.wait_for(|said| said.complete || enough(&said.text));
        match said.await {
            Ok(said) => (said.text.clone(), said.complete),
            // The sender is `self`, so it cannot be gone.
            Err(_closed) => (String::new(), true),
        }
    }

    /// All of it.
    pub(super) async fn whole(&self) -> String {
        self.until(|_| false).await.0
    }
}

/// The right to add to a speech, which is complete when this is dropped.
#[derive(Debug)]
pub(super) struct Speaking<'a>(&'a Speech);

impl Speaking<'_> {
    pub(super) fn say(&self, text: &str) {
        self.0.0.send_modify(|said| said.text.push_str(text));
    }

    /// What was said so far.
    pub(super) fn text(&self) -> String {
        self.0.0.borrow().text.clone()
    }
}

impl Drop for Speaking<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|said| said.complete = true);
    }
}
