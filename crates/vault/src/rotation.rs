//! Which keys a change of keys makes, wraps anew and destroys.
//!
//! A tenant with two keys, or with one that accepts clear rows, is in the middle of a change.
//! Invariant: a change that was begun and not ended goes on with the keys that it has.
//! Deliberately absent: reading and keeping keys, which stores do in one transaction.

use std::collections::BTreeSet;

use crate::{Clear, KeyRing, Masters, OpenError, SealError, Wrapped};

/// A tenant that has keys.
#[derive(Debug, Clone)]
pub struct Keyed {
    /// The tenant.
    pub tenant: String,
    /// Its keys, oldest first.
    pub keys: Vec<Wrapped>,
    /// What they say of its clear rows.
    pub clear: Clear,
}

impl Keyed {
    fn is_changing(&self) -> bool {
        self.keys.len() > 1
    }
}

/// What begins a change of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beginning<'a> {
    /// How many tenants the change concerns.
    pub tenants: u64,
    /// The keys that are made for it, with their tenants.
    pub made: Vec<(&'a str, Wrapped)>,
}

/// What ends the change of one tenant's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// The version of its newest key: those of lower versions are destroyed.
    pub newest: u32,
    /// The newest key as it is kept from then on, where that is otherwise than before: it refuses
    /// clear rows.
    pub key: Option<Wrapped>,
}

/// All tenants of a store that have keys, and the master keys.
#[derive(Debug, Clone)]
pub struct Rotation<'a> {
    /// The master keys.
    pub masters: &'a Masters,
    /// The tenants.
    pub keyed: Vec<Keyed>,
}

impl Rotation<'_> {
    fn count(&self, is: impl Fn(&Keyed) -> bool) -> u64 {
        self.keyed.iter().filter(|tenant| is(tenant)).count() as u64
    }

    /// How many tenants have keys.
    #[must_use]
    pub fn tenants(&self) -> u64 {
        self.keyed.len() as u64
    }

    /// How many tenants have an old key beside the newest.
    #[must_use]
    pub fn changing(&self) -> u64 {
        self.count(Keyed::is_changing)
    }

    /// How many tenants have a key that another master key wraps than the newest.
    #[must_use]
    pub fn outdated(&self) -> u64 {
        let newest = |key: &Wrapped| KeyRing::sealed_by(&key.bytes) == Ok(self.masters.newest());
        self.count(|tenant| !tenant.keys.iter().all(newest))
    }

    /// How many of the tenants that have rows may have clear ones.
    #[must_use]
    pub fn unsealed(&self, with_rows: &BTreeSet<String>) -> u64 {
        let sealed = |tenant: &&Keyed| tenant.clear == Clear::Refused;
        let sealed = self.keyed.iter().filter(sealed);
        let sealed: BTreeSet<_> = sealed.map(|tenant| &tenant.tenant).collect();
        let clear = with_rows.iter().filter(|tenant| !sealed.contains(tenant));
        clear.count() as u64
    }

    /// Whether some tenant's rows may be clear.
    #[must_use]
    pub fn may_be_clear(&self) -> bool {
        self.count(|tenant| tenant.clear == Clear::Accepted) > 0
    }

    /// The keys that the newest master key has to wrap, wrapped by it, with their tenants.
    ///
    /// # Errors
    ///
    /// [`OpenError`] where a key cannot be wrapped anew, see [`Masters::rewrap`].
    pub fn wrap(&self) -> Result<Vec<(&str, Wrapped)>, OpenError> {
        let mut wrapped = Vec::new();
        for Keyed {
            tenant,
            keys,
            clear,
        } in &self.keyed
        {
            for key in keys {
                let anew = self.masters.rewrap(tenant, key, *clear)?;
                wrapped.extend(anew.map(|anew| (tenant.as_str(), anew)));
            }
        }
        Ok(wrapped)
    }

    /// Begins a change with a first key for each tenant that has rows and no key; or, where there is
    /// no such tenant and no change under way, with another one for each tenant.
    ///
    /// # Errors
    ///
    /// [`SealError`], where the system fails.
    pub fn begin<'a>(
        &'a self,
        with_rows: &'a BTreeSet<String>,
    ) -> Result<Beginning<'a>, SealError> {
        let under_way =
            self.count(|tenant| tenant.is_changing() || tenant.clear == Clear::Accepted);
        let have: BTreeSet<_> = self.keyed.iter().map(|tenant| &tenant.tenant).collect();
        let mut made = Vec::new();
        for tenant in with_rows.iter().filter(|tenant| !have.contains(tenant)) {
            let key = self.masters.make(tenant, None, Clear::Accepted)?;
            made.push((tenant.as_str(), key));
        }
        if under_way == 0 && made.is_empty() {
            for Keyed { tenant, keys, .. } in &self.keyed {
                let newest = keys.last().map(|key| key.version);
                let key = self.masters.make(tenant, newest, Clear::Refused)?;
                made.push((tenant.as_str(), key));
            }
        }
        Ok(Beginning {
            tenants: under_way + made.len() as u64,
            made,
        })
    }

    /// What ends the change, for each tenant.
    ///
    /// # Errors
    ///
    /// [`OpenError`] where a key cannot be wrapped anew, see [`Masters::rewrap`].
    pub fn end(&self) -> Result<Vec<Ending<'_>>, OpenError> {
        let mut endings = Vec::new();
        for Keyed { tenant, keys, .. } in &self.keyed {
            let Some(newest) = keys.last() else { continue };
            endings.push(Ending {
                tenant,
                newest: newest.version,
                key: self.masters.rewrap(tenant, newest, Clear::Refused)?,
            });
        }
        Ok(endings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyed(tenant: &str, clear: Clear, keys: &[&Wrapped]) -> Keyed {
        Keyed {
            tenant: tenant.to_owned(),
            keys: keys.iter().copied().cloned().collect(),
            clear,
        }
    }

    #[test]
    fn a_change_gives_first_keys_before_others_and_none_while_one_is_under_way() {
        let masters = &Masters::new(&[1; 32]);
        let with_rows = &BTreeSet::from(["acme", "umbrella"].map(str::to_owned));
        let acme = masters.make("acme", None, Clear::Refused).unwrap();
        let known = keyed("acme", Clear::Refused, &[&acme]);
        let under_way = Beginning {
            tenants: 1,
            made: Vec::new(),
        };
        let one = Rotation {
            masters,
            keyed: vec![known.clone()],
        };
        assert_eq!((one.tenants(), one.unsealed(with_rows)), (1, 1));
        let Beginning { tenants, made } = one.begin(with_rows).unwrap();
        assert_eq!((tenants, made.len(), made[0].0), (1, 1, "umbrella"));
        let umbrella = &made[0].1;
        let opened = masters.open("umbrella", std::slice::from_ref(umbrella));
        assert_eq!(opened.unwrap().clear(), Clear::Accepted);

        let half = Rotation {
            masters,
            keyed: vec![known, keyed("umbrella", Clear::Accepted, &[umbrella])],
        };
        assert_eq!((half.unsealed(with_rows), half.changing()), (1, 0));
        assert_eq!(half.begin(with_rows).unwrap(), under_way);

        let mut whole = half.clone();
        whole.keyed[1].clear = Clear::Refused;
        assert_eq!(whole.unsealed(with_rows), 0);
        let Beginning { tenants, made } = whole.begin(with_rows).unwrap();
        let versions: Vec<_> = made
            .iter()
            .map(|(name, key)| (*name, key.version))
            .collect();
        let next = [
            ("acme", acme.version + 1),
            ("umbrella", umbrella.version + 1),
        ];
        assert_eq!((tenants, versions.as_slice()), (2, next.as_slice()));

        let mut begun = whole.clone();
        begun.keyed[0].keys.push(made[0].1.clone());
        assert_eq!(begun.changing(), 1);
        assert_eq!(begun.begin(with_rows).unwrap(), under_way);
    }

    #[test]
    fn all_keys_that_an_old_master_wraps_are_wrapped_anew() {
        let (old, new) = (Masters::new(&[1; 32]), Masters::new(&[2; 32]));
        let both = &Masters::new(&[2; 32]).and_old(&[1; 32]);
        let first = old.make("acme", None, Clear::Accepted).unwrap();
        let second = new.make("acme", Some(first.version), Clear::Accepted);
        let second = second.unwrap();
        let mut rotation = Rotation {
            masters: both,
            keyed: vec![keyed("acme", Clear::Accepted, &[&first, &second])],
        };
        assert_eq!(rotation.outdated(), 1);
        let wrapped: Vec<_> = rotation
            .wrap()
            .unwrap()
            .into_iter()
            .map(|(_, key)| key)
            .collect();
        assert_eq!(wrapped.len(), 1);
        assert_eq!(wrapped[0].version, first.version);
        assert_eq!(new.open("acme", &wrapped).unwrap().clear(), Clear::Accepted);
        rotation.keyed[0].keys[0] = wrapped[0].clone();
        assert_eq!(rotation.outdated(), 0);
        assert_eq!(rotation.wrap().unwrap(), Vec::new());
    }

    #[test]
    fn the_end_leaves_one_key_that_refuses_clear_rows() {
        let masters = &Masters::new(&[1; 32]);
        let old = masters.make("acme", None, Clear::Accepted).unwrap();
        let new = masters.make("acme", Some(old.version), Clear::Refused);
        let new = new.unwrap();
        let only = masters.make("umbrella", None, Clear::Accepted).unwrap();
        let mut rotation = Rotation {
            masters,
            keyed: vec![
                keyed("acme", Clear::Accepted, &[&old, &new]),
                keyed("umbrella", Clear::Accepted, &[&only]),
            ],
        };
        assert!(rotation.may_be_clear());
        let endings = rotation.end().unwrap();
        let [acme, umbrella] = endings.as_slice() else {
            panic!("{endings:?}");
        };
        assert_eq!(
            (acme.tenant, acme.newest, &acme.key),
            ("acme", new.version, &None)
        );
        assert_eq!(
            (umbrella.tenant, umbrella.newest),
            ("umbrella", only.version)
        );
        let kept = umbrella.key.clone().unwrap();
        let opened = masters.open("umbrella", std::slice::from_ref(&kept));
        assert_eq!(opened.unwrap().clear(), Clear::Refused);

        rotation.keyed = vec![
            keyed("acme", Clear::Refused, &[&new]),
            keyed("umbrella", Clear::Refused, &[&kept]),
        ];
        assert!(!rotation.may_be_clear());
        assert!(
            rotation
                .end()
                .unwrap()
                .iter()
                .all(|ending| ending.key.is_none())
        );
    }
}
