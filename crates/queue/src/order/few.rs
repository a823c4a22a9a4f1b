//! A sequence that is mostly of one: most conversations have one waiting call.
//!
//! One element is kept in place; only more of them take memory of their own.
//! Deliberately absent: going back in place when all but one have left, which would make
//! a conversation of one or two allocate again and again.

use std::collections::VecDeque;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) enum Few<T> {
    #[default]
    None,
    One(T),
    // Boxed: in place it would make every sequence as large.
    #[expect(clippy::box_collection, reason = "the box is four times as small")]
    Many(Box<VecDeque<T>>),
}

impl<T> Few<T> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Many(many) => many.len(),
        }
    }

    pub(super) fn get(&self, at: usize) -> Option<&T> {
        match self {
            Self::One(one) if at == 0 => Some(one),
            Self::None | Self::One(_) => None,
            Self::Many(many) => many.get(at),
        }
    }

    pub(super) fn last(&self) -> Option<&T> {
        self.get(self.len().checked_sub(1)?)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    /// Of an ascending sequence, where the elements begin for which `before` is false.
    pub(super) fn partition_point(&self, before: impl FnMut(&T) -> bool) -> usize {
        match self {
            Self::None => 0,
            Self::One(one) => usize::from(std::iter::once(one).all(before)),
            Self::Many(many) => many.partition_point(before),
        }
    }

    /// Adds an element before the one that is at this place, or at the end.
    pub(super) fn insert(&mut self, at: usize, value: T) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(value),
            Self::One(one) => {
                let mut many = VecDeque::with_capacity(4);
                many.push_back(one);
                many.insert(at.min(1), value);
                Self::Many(Box::new(many))
            }
            Self::Many(mut many) => {
                many.insert(at.min(many.len()), value);
                Self::Many(many)
            }
        };
    }

    pub(super) fn push(&mut self, value: T) {
        self.insert(self.len(), value);
    }

    pub(super) fn remove(&mut self, at: usize) -> Option<T> {
        match std::mem::take(self) {
            Self::None => None,
            Self::One(one) if at == 0 => Some(one),
            Self::Many(mut many) => {
                let removed = many.remove(at);
                if !many.is_empty() {
                    *self = Self::Many(many);
                }
                removed
            }
            one @ Self::One(_) => {
                *self = one;
                None
            }
        }
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        self.remove(self.len().checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_deque(steps in prop::collection::vec((0u8..5, 0usize..4), 0..200)) {
            let (mut few, mut model) = (Few::default(), VecDeque::new());
            for (number, (what, at)) in steps.into_iter().enumerate() {
                match what {
                    0 => {
                        few.push(number);
                        model.push_back(number);
                    }
                    1 => {
                        few.insert(at, number);
                        model.insert(at.min(model.len()), number);
                    }
                    2 => prop_assert_eq!(few.pop(), model.pop_back()),
                    _ => prop_assert_eq!(few.remove(at), model.remove(at)),
                }
                prop_assert_eq!(few.len(), model.len());
                prop_assert_eq!(few.last(), model.back());
                prop_assert!(few.iter().eq(model.iter()));
            }
        }

        #[test]
        fn the_place_in_an_ascending_one_is_found(length in 0usize..6, wanted in 0usize..7) {
            let mut few = Few::default();
            (0..length).for_each(|number| few.push(number));
            prop_assert_eq!(few.partition_point(|number| *number < wanted), wanted.min(length));
        }
    }
}
