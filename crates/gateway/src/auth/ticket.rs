//! Tickets for WebSockets of browsers, which cannot send a key with one.
//!
//! Invariant: a ticket opens one connection, once, within [`TICKET_SECONDS`], as who asked for
//! it; only its digest is kept. It comes in `Sec-WebSocket-Protocol`, which neither addresses
//! nor histories nor logs of proxies hold. Chosen over the key itself in that header: what
//! leaks there is spent already. Deliberately absent: tickets that other processes know.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::{HeaderMap, header};
use uuid::Uuid;

use super::{ApiKey, Caller};
use crate::error::ApiError;

/// How long a ticket is taken, in seconds.
pub(crate) const TICKET_SECONDS: u64 = 30;

/// The protocol that a client offers beside its ticket, and that the server chooses: browsers
/// want one of those that they offered.
pub(crate) const WEBSOCKET_PROTOCOL: &str = "lyceum.v1";

/// What stands before a ticket.
const TICKET: &str = "lyceum.ticket.";

/// The most tickets that wait, of all and of one caller.
const MOST: usize = 16_384;
const MOST_OF_ONE: usize = 64;

#[derive(Debug)]
struct Waiting {
    caller: Caller,
    until: Duration,
}

/// The tickets that wait to be used.
#[derive(Debug, Default)]
pub(crate) struct Tickets(Mutex<HashMap<[u8; 32], Waiting>>);

impl Tickets {
    /// Makes a ticket and gives it as a protocol.
    ///
    /// # Errors
    ///
    /// [`ApiError::Busy`] where too many wait.
    pub(crate) fn issue(&self, caller: Caller, now: Duration) -> Result<String, ApiError> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= MOST_OF_ONE {
            waiting.retain(|_, ticket| ticket.until > now);
        }
        let number = caller.number;
        let own = || {
            waiting
                .values()
                .filter(|ticket| ticket.caller.number == number)
        };
        if waiting.len() >= MOST || own().count() >= MOST_OF_ONE {
            return Err(ApiError::Busy);
        }
        let ticket = format!("{TICKET}{}", Uuid::new_v4().simple());
        let until = now + Duration::from_secs(TICKET_SECONDS);
        waiting.insert(ApiKey::digest(&ticket), Waiting { caller, until });
        Ok(ticket)
    }

    /// Who came with a ticket, which is spent by that; `None` where there is none in these
    /// headers.
    ///
    /// # Errors
    ///
    /// [`ApiError::Ticket`] for one that is not known, was used, or is too old.
    pub(crate) fn redeem(
        &self,
        headers: &HeaderMap,
        now: Duration,
    ) -> Option<Result<Caller, ApiError>> {
        let ticket = protocols(headers).find(|offered| offered.starts_with(TICKET))?;
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = waiting.remove(&ApiKey::digest(ticket));
        let found = found.filter(|ticket| ticket.until > now);
        Some(found.map(|ticket| ticket.caller).ok_or(ApiError::Ticket))
    }
}

/// Whether a client offers the protocol.
pub(crate) fn speaks_protocol(headers: &HeaderMap) -> bool {
    protocols(headers).any(|offered| offered == WEBSOCKET_PROTOCOL)
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(protocols: &str) -> HeaderMap {
        let value = protocols.parse().unwrap();
        HeaderMap::from_iter([(header::SEC_WEBSOCKET_PROTOCOL, value)])
    }

    #[test]
    fn a_ticket_is_used_once_and_soon() {
        let tickets = Tickets::default();
        let second = Duration::from_secs(1);
        let ticket = tickets.issue(Caller::local(), second).unwrap();
        let headers = offered(&format!("{WEBSOCKET_PROTOCOL}, {ticket}"));
        assert!(speaks_protocol(&headers));
        assert!(tickets.redeem(&headers, second).unwrap().is_ok());
        assert!(tickets.redeem(&headers, second).unwrap().is_err());
        let late = tickets.issue(Caller::local(), second).unwrap();
        let after = second + Duration::from_secs(TICKET_SECONDS);
        assert!(tickets.redeem(&offered(&late), after).unwrap().is_err());
        assert!(
            tickets
                .redeem(&offered("lyceum.v1, graphql-ws"), second)
                .is_none()
        );
        assert!(tickets.redeem(&HeaderMap::new(), second).is_none());
    }

    #[test]
    fn one_caller_cannot_take_the_room_of_others() {
        let tickets = Tickets::default();
        for _ in 0..MOST_OF_ONE {
            tickets.issue(Caller::local(), Duration::ZERO).unwrap();
        }
        assert!(tickets.issue(Caller::local(), Duration::ZERO).is_err());
        let other = Caller {
            number: 7,
            ..Caller::local()
        };
        assert!(tickets.issue(other, Duration::ZERO).is_ok());
        let later = Duration::from_secs(TICKET_SECONDS);
        assert!(tickets.issue(Caller::local(), later).is_ok());
    }
}
