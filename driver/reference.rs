// SPDX-License-Identifier: Apache-2.0
//! References in Erlang's external term format, the tags of a poll's message.
//!
//! The bytes come from outside and go to `ERL_DRV_EXT2TERM`, so exactly one
//! shape passes: NEWER_REFERENCE_EXT, whose node's name is in Latin-1 up to
//! OTP 25 and in UTF-8 from OTP 26 on.

use std::sync::Arc;

const VERSION: u8 = 131;
const NEWER_REFERENCE_EXT: u8 = 90;
const ATOM_EXT: u8 = 100;
const ATOM_UTF8_EXT: u8 = 118;
const SMALL_ATOM_UTF8_EXT: u8 = 119;
/// Words of a reference's number: 3, or up to 5 for those with an alias.
const MAX_WORDS: usize = 5;
const MAX_NUMBER: usize = 4 * MAX_WORDS;
const CREATION: usize = 4;
/// An atom has at most 255 characters.
const MAX_ATOM: usize = 255;

/// A reference as it came: borrowed and checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference<'a> {
    /// Everything up to the number: version, tag, length, node, creation.
    head: &'a [u8],
    number: &'a [u8],
}

impl<'a> Reference<'a> {
    /// Reads one reference that fills `bytes`.
    pub fn parse(bytes: &'a [u8]) -> Option<Reference<'a>> {
        let rest = bytes.strip_prefix(&[VERSION, NEWER_REFERENCE_EXT])?;
        let (words, rest) = rest.split_first_chunk()?;
        let words = usize::from(u16::from_be_bytes(*words));
        if words == 0 || words > MAX_WORDS {
            return None;
        }
        let (tag, rest) = rest.split_first()?;
        let (length, rest) = match (*tag, rest) {
            (SMALL_ATOM_UTF8_EXT, [length, rest @ ..]) => (usize::from(*length), rest),
            (ATOM_EXT | ATOM_UTF8_EXT, [high, low, rest @ ..]) => {
                (usize::from(u16::from_be_bytes([*high, *low])), rest)
            }
            _ => return None,
        };
        let (node, rest) = rest.split_at_checked(length)?;
        let characters = match *tag {
            ATOM_EXT => node.len(),
            _ => std::str::from_utf8(node).ok()?.chars().count(),
        };
        if characters > MAX_ATOM || !node.contains(&b'@') {
            return None;
        }
        if rest.len() != CREATION + 4 * words {
            return None;
        }
        let (head, number) = bytes.split_at(bytes.len() - 4 * words);
        Some(Reference { head, number })
    }
}

/// A reference that is kept. Those of one node share their head, so that a
/// waiter costs few bytes however long the node's name is.
#[derive(Debug, Clone)]
pub struct Kept {
    head: Arc<[u8]>,
    number: [u8; MAX_NUMBER],
    length: u8,
}

impl Kept {
    /// Appends the external format.
    pub fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.head);
        to.extend_from_slice(&self.number[..usize::from(self.length)]);
    }
}

/// Heads that one keeper takes. A message with a reference makes an atom of its
/// node's name, and atoms are for ever, so names cannot be taken without end. A
/// VM's own references have one head for each name that the node has had.
const MAX_HEADS: usize = 4;

/// Keeps references, of few nodes.
#[derive(Debug, Default)]
pub struct Keeper {
    heads: Vec<Arc<[u8]>>,
}

impl Keeper {
    /// `None` for a reference of one node too many.
    pub fn keep(&mut self, reference: Reference<'_>) -> Option<Kept> {
        let known = self.heads.iter().find(|head| ***head == *reference.head);
        let head = match known {
            Some(head) => head.clone(),
            None if self.heads.len() < MAX_HEADS => {
                let head: Arc<[u8]> = reference.head.into();
                self.heads.push(head.clone());
                head
            }
            None => return None,
        };
        let mut number = [0; MAX_NUMBER];
        number[..reference.number.len()].copy_from_slice(reference.number);
        Some(Kept {
            head,
            number,
            length: reference.number.len() as u8,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(node: &str, words: u16) -> Vec<u8> {
        let mut bytes = vec![VERSION, NEWER_REFERENCE_EXT];
        bytes.extend(words.to_be_bytes());
        bytes.extend([SMALL_ATOM_UTF8_EXT, node.len() as u8]);
        bytes.extend(node.bytes());
        bytes.extend([0, 0, 0, 9]);
        bytes.extend((0..4 * words).map(|i| i as u8));
        bytes
    }

    #[test]
    fn a_reference_survives_being_kept() {
        let mut keeper = Keeper::default();
        for (node, words) in [("nonode@nohost", 3), ("a@b", 5), ("ü@x", 1)] {
            let bytes = encode(node, words);
            let kept = keeper.keep(Reference::parse(&bytes).unwrap()).unwrap();
            let mut back = Vec::new();
            kept.write(&mut back);
            assert_eq!(back, bytes);
        }
    }

    #[test]
    fn latin1_is_for_old_releases() {
        let mut bytes = vec![VERSION, NEWER_REFERENCE_EXT, 0, 1, ATOM_EXT, 0, 3];
        bytes.extend([0xfc, b'@', b'x', 0, 0, 0, 9, 1, 2, 3, 4]);
        assert!(Reference::parse(&bytes).is_some());
        // The same name is no UTF-8.
        bytes[4] = ATOM_UTF8_EXT;
        assert_eq!(Reference::parse(&bytes), None);
    }

    #[test]
    fn one_node_shares_one_head() {
        let mut keeper = Keeper::default();
        let bytes = encode("nonode@nohost", 3);
        let one = keeper.keep(Reference::parse(&bytes).unwrap()).unwrap();
        let other = keeper.keep(Reference::parse(&bytes).unwrap()).unwrap();
        assert!(Arc::ptr_eq(&one.head, &other.head));
    }

    #[test]
    fn names_are_not_taken_without_end() {
        let mut keeper = Keeper::default();
        let taken = (0..100).filter(|n| {
            let bytes = encode(&format!("node{n}@nohost"), 3);
            keeper.keep(Reference::parse(&bytes).unwrap()).is_some()
        });
        assert_eq!(taken.count(), MAX_HEADS);
        let known = encode("node0@nohost", 3);
        assert!(keeper.keep(Reference::parse(&known).unwrap()).is_some());
    }

    #[test]
    fn every_cut_and_every_extension_is_refused() {
        let bytes = encode("nonode@nohost", 3);
        for length in 0..bytes.len() {
            assert_eq!(Reference::parse(&bytes[..length]), None);
        }
        let mut long = bytes.clone();
        long.push(0);
        assert_eq!(Reference::parse(&long), None);
    }

    #[test]
    fn other_shapes_are_refused() {
        for words in [0, 6, 100] {
            assert_eq!(Reference::parse(&encode("a@b", words)), None);
        }
        assert_eq!(Reference::parse(&encode("nohost", 3)), None);
        // An integer, and a list, in the external format.
        assert_eq!(Reference::parse(&[131, 97, 1]), None);
        assert_eq!(Reference::parse(&[131, 107, 0, 1, 65]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let _ = Reference::parse(&bytes);
        }

        #[test]
        fn a_changed_byte_is_survived(at in 0usize..35, to: u8) {
            let mut bytes = encode("nonode@nohost", 3);
            let at = at % bytes.len();
            bytes[at] = to;
            if let Some(reference) = Reference::parse(&bytes) {
                let mut back = Vec::new();
                Keeper::default().keep(reference).unwrap().write(&mut back);
                prop_assert_eq!(back, bytes);
            }
        }
    }
}
