//! Whose records and checkpoints are whose: those of one user of one tenant.
//!
//! Invariant: different users have different names here, also those of different tenants that
//! share a name. Deliberately absent: anything that users of a tenant share.

use lyceum_core::{Scope, TenantId};
use uuid::Uuid;

use super::refusal::{Answer, Refusal};
use crate::error::ApiError;

/// The namespace of owners' names (RFC 9562, section 5.5).
const OWNERS: Uuid = Uuid::from_u128(0x2c1f_07a5_93be_5d0e_8d5b_6c42_b1e3_79f4);

/// The name under which the records of a user are kept. No id holds a slash, so no two pairs
/// of tenant and user are the same text.
pub(crate) fn owner(scope: &Scope) -> Answer<TenantId> {
    let name = format!("{}/{}", scope.tenant, scope.user);
    let name = Uuid::new_v5(&OWNERS, name.as_bytes());
    TenantId::new(name.to_string()).map_err(|_| Refusal::Api(ApiError::Internal { what: "owner" }))
}

#[cfg(test)]
mod tests {
    use lyceum_core::UserId;

    use super::*;

    #[test]
    fn tenant_and_user_both_tell_owners_apart_and_one_owner_stays_the_same() {
        let of = |tenant: &str, user: &str| {
            let scope = Scope {
                tenant: TenantId::new(tenant).unwrap(),
                user: UserId::new(user).unwrap(),
                ..Scope::local()
            };
            owner(&scope).unwrap()
        };
        let all = [
            of("a", "b"),
            of("b", "a"),
            of("a", "a"),
            of("a:b", "c"),
            of("a", "b:c"),
        ];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(of("a", "b"), all[0]);
        // Stored data is found under it: it must never change.
        assert_eq!(all[0].as_str(), "2ab0ae89-2d62-5bba-acaf-bf741f8a1f6a");
    }
}
