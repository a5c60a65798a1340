// SPDX-License-Identifier: Apache-2.0
//! Event kinds and sets of them. The bits are those of the wire's mode.

/// What a waiter waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Read,
    Write,
    /// Out-of-band data, or what a file has to tell beside its data (POLLPRI).
    Priority,
    /// The other side has closed, or will send nothing more (POLLRDHUP, POLLHUP).
    Hangup,
}

impl Kind {
    /// Every kind, in the order in which a poll reports them.
    pub const ALL: [Kind; 4] = [Kind::Read, Kind::Write, Kind::Priority, Kind::Hangup];

    /// The kind's place in an array of one item per kind.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The kind's name, on the wire and in Erlang.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Read => "read",
            Kind::Write => "write",
            Kind::Priority => "priority",
            Kind::Hangup => "hangup",
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
    pub const PRIORITY: Kinds = Kinds(4);
    pub const HANGUP: Kinds = Kinds(8);
    /// What every Unix has.
    pub const READ_WRITE: Kinds = Kinds(Kinds::READ.0 | Kinds::WRITE.0);
    pub const ALL: Kinds = Kinds(Kinds::READ_WRITE.0 | Kinds::PRIORITY.0 | Kinds::HANGUP.0);

    /// The set of a mode on the wire; `None` if it is empty or has other bits.
    pub fn from_mode(mode: i32) -> Option<Kinds> {
        let bits = u8::try_from(mode).ok()?;
        (bits != 0 && bits & !Kinds::ALL.0 == 0).then_some(Kinds(bits))
    }

    /// The set as a mode on the wire.
    pub fn mode(self) -> i32 {
        self.0.into()
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn contains(self, kind: Kind) -> bool {
        !(self & kind.into()).is_empty()
    }

    /// The kinds of the set, in the order of [`Kind::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        let mut bits = self.0;
        std::iter::from_fn(move || {
            let first = *Kind::ALL.get(bits.trailing_zeros() as usize)?;
            bits &= bits - 1;
            Some(first)
        })
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
        assert_eq!(Kinds::from_mode(12), Some(Kinds::PRIORITY | Kinds::HANGUP));
        for mode in [0, 16, 17, 255, 256, 257, -1, i32::MIN, i32::MAX] {
            assert_eq!(Kinds::from_mode(mode), None, "{mode}");
        }
    }

    #[test]
    fn read_comes_first() {
        let kinds: Vec<Kind> = Kinds::ALL.iter().collect();
        assert_eq!(kinds, Kind::ALL);
        assert_eq!(kinds[0], Kind::Read);
    }

    #[test]
    fn a_mode_is_the_set() {
        for mode in 1..16 {
            assert_eq!(Kinds::from_mode(mode).map(Kinds::mode), Some(mode));
        }
    }
}
