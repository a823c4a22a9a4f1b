//! Loads under way: equal ones at one time are one.
//!
//! Invariant: whoever joins a load gets its result, and nobody who came after an invalidation
//! joins a load that began before it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::{FutureExt, Shared};
use tokio::sync::oneshot;

use crate::{
    LoadError, Selection,
    key::{KeyRef, LocalKey},
};

/// What a load gave.
pub(crate) type Loaded<T> = Result<Option<Arc<T>>, LoadError>;

type Landing<T> = Shared<oneshot::Receiver<Loaded<T>>>;

/// The loads under way of one cache.
#[derive(Debug)]
pub(crate) struct Flights<T> {
    under_way: Arc<Mutex<UnderWay<T>>>,
}

#[derive(Debug)]
struct UnderWay<T> {
    landings: HashMap<LocalKey, (u64, Landing<T>)>,
    begun: u64,
}

/// The duty to end a load; dropped, it tells those who wait that it was interrupted.
#[derive(Debug)]
pub(crate) struct Pilot<T> {
    under_way: Arc<Mutex<UnderWay<T>>>,
    key: LocalKey,
    number: u64,
    landing: Option<oneshot::Sender<Loaded<T>>>,
}

impl<T: Send + Sync + 'static> Flights<T> {
    pub(crate) fn new() -> Self {
        let under_way = UnderWay {
            landings: HashMap::new(),
            begun: 0,
        };
        Self {
            under_way: Arc::new(Mutex::new(under_way)),
        }
    }

    /// Joins the key's load, or begins one; whoever gets a pilot must see to it.
    pub(crate) fn join(&self, key: KeyRef<'_>) -> (Waiting<T>, Option<Pilot<T>>) {
        let mut under_way = lock(&self.under_way);
        let key = key.to_owned();
        if let Some((_, landing)) = under_way.landings.get(&key) {
            return (Waiting(landing.clone()), None);
        }
        let (sender, receiver) = oneshot::channel();
        let landing = receiver.shared();
        under_way.begun += 1;
        let number = under_way.begun;
        let pilot = Pilot {
            under_way: Arc::clone(&self.under_way),
            key: key.clone(),
            number,
            landing: Some(sender),
        };
        under_way.landings.insert(key, (number, landing.clone()));
        (Waiting(landing), Some(pilot))
    }

    /// Lets nobody join the selected loads any more.
    pub(crate) fn part(&self, selection: &Selection) {
        let mut under_way = lock(&self.under_way);
        let stays = |key: &LocalKey| !selection.holds_text(&key.tenant, &key.text);
        under_way.landings.retain(|key, _| stays(key));
    }

    /// Lets nobody join any load under way.
    pub(crate) fn part_all(&self) {
        lock(&self.under_way).landings.clear();
    }
}

impl<T> Pilot<T> {
    pub(crate) fn key(&self) -> &LocalKey {
        &self.key
    }

    /// Tells everybody who waits.
    pub(crate) fn land(mut self, loaded: Loaded<T>) {
        if let Some(landing) = self.landing.take() {
            // Everybody may have left.
            let _ = landing.send(loaded);
        }
    }
}

impl<T> Drop for Pilot<T> {
    fn drop(&mut self) {
        let mut under_way = lock(&self.under_way);
        let landings = &mut under_way.landings;
        if landings
            .get(&self.key)
            .is_some_and(|(number, _)| *number == self.number)
        {
            landings.remove(&self.key);
        }
    }
}

/// A place among those who wait for a load.
#[derive(Debug)]
pub(crate) struct Waiting<T>(Landing<T>);

impl<T: Send + Sync + 'static> Waiting<T> {
    pub(crate) async fn landed(self) -> Loaded<T> {
        self.0.await.unwrap_or(Err(LoadError::Interrupted))
    }
}

/// Poison is ignored: every change is complete.
fn lock<T>(under_way: &Mutex<UnderWay<T>>) -> MutexGuard<'_, UnderWay<T>> {
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}
