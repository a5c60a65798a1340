// SPDX-License-Identifier: Apache-2.0
//! Event kinds and sets of them. The bits are those of the wire's mode.

/// What a waiter waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Read,
    Write,
}

impl Kind {
    /// Every kind, in the order in which a poll reports them.
    pub const ALL: [Kind; 2] = [Kind::Read, Kind::Write];

    /// The kind's place in an array of one item per kind.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The kind's name, on the wire and in Erlang.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Read => "read",
            Kind::Write => "write",
        }
    }
}

/// A set of kinds.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Kinds(u8);

impl Kinds {
    pub const NONE: Kinds = Kinds(0);
    pub const READ: Kinds = Kinds(1);
    pub const WRITE: Kinds = Kinds(2);
    const ALL: Kinds = Kinds(Kinds::READ.0 | Kinds::WRITE.0);

    /// The set of a mode on the wire; `None` if it is empty or has other bits.
    pub fn from_mode(mode: i32) -> Option<Kinds> {
        let bits = u8::try_from(mode).ok()?;
        (bits != 0 && bits & !Kinds::ALL.0 == 0).then_some(Kinds(bits))
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn contains(self, kind: Kind) -> bool {
        !(self & kind.into()).is_empty()
    }

    /// The kinds of the set, in the order of [`Kind::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL
            .into_iter()
            .filter(move |kind| self.contains(*kind))
    }
}

impl From<Kind> for Kinds {
    fn from(kind: Kind) -> Kinds {
        Kinds(1 << kind.index())
    }
}

impl std::ops::BitOr for Kinds {
    type Output = Kinds;

    fn bitor(self, other: Kinds) -> Kinds {
        Kinds(self.0 | other.0)
    }
}

impl std::ops::BitOrAssign for Kinds {
    fn bitor_assign(&mut self, other: Kinds) {
        *self = *self | other;
    }
}

impl std::ops::BitAnd for Kinds {
    type Output = Kinds;

    fn bitand(self, other: Kinds) -> Kinds {
        Kinds(self.0 & other.0)
    }
}

impl std::ops::Sub for Kinds {
    type Output = Kinds;

    /// The kinds of the first set that are not in the second.
    fn sub(self, other: Kinds) -> Kinds {
        Kinds(self.0 & !other.0)
    }
}

impl std::fmt::Debug for Kinds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_bits_are_a_mode() {
        assert_eq!(Kinds::from_mode(1), Some(Kinds::READ));
        assert_eq!(Kinds::from_mode(2), Some(Kinds::WRITE));
        assert_eq!(Kinds::from_mode(3), Some(Kinds::READ | Kinds::WRITE));
        for mode in [0, 4, 8, 255, 256, 257, -1, i32::MIN, i32::MAX] {
            assert_eq!(Kinds::from_mode(mode), None, "{mode}");
        }
    }

    #[test]
    fn read_comes_before_write() {
        let kinds: Vec<Kind> = (Kinds::WRITE | Kinds::READ).iter().collect();
        assert_eq!(kinds, [Kind::Read, Kind::Write]);
    }
}
