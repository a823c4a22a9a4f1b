//! An order in which no owner is before another for having more.

use std::collections::HashMap;

use lyceum_core::TenantId;

/// The first of each owner, then the second of each, and so on; those of one owner, and those of
/// one place among their owners', stay in their order.
pub(crate) fn in_turn<T>(all: Vec<(TenantId, T)>) -> impl Iterator<Item = (TenantId, T)> {
    let mut places: HashMap<TenantId, usize> = HashMap::new();
    let mut placed: Vec<_> = all
        .into_iter()
        .map(|one| {
            let place = places.entry(one.0.clone()).or_default();
            *place += 1;
            (*place, one)
        })
        .collect();
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, one)| one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_take_turns() {
        let all = [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("b", 6)];
        let all = all.map(|(owner, one)| (TenantId::new(owner).unwrap(), one));
        let order: Vec<_> = in_turn(all.into()).map(|(_, one)| one).collect();
        assert_eq!(order, [1, 4, 5, 2, 6, 3]);
    }
}
