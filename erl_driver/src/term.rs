// SPDX-License-Identifier: Apache-2.0
//! Terms to send, written down in the driver term format of
//! `erl_drv_send_term(3)`: postfix, an element's data after its tag. The
//! closures of tuples, lists and maps count their elements, so that a term
//! cannot be malformed.

use crate::{Pid, Port};
use erl_driver_sys as sys;
use smallvec::SmallVec;
use std::ffi::{CStr, c_int};
use std::marker::PhantomData;

/// Words that a message such as `{Tag, Port, Fd}` or `{Ref, Result}` needs,
/// with some room: longer ones go to the heap.
const INLINE_WORDS: usize = 24;

/// The elements of the largest tuple (`MAX_ARITYVAL` in ERTS's `erl_term.h`).
/// ERTS does not check: a larger one would destroy the receiver's heap.
const MAX_ARITY: usize = (1 << 24) - 1;

/// A tag that ERTS does not know: a term with it is malformed.
const MALFORMED: sys::ErlDrvTermData = sys::ErlDrvTermData::MAX;

/// An atom. Atoms are never freed, and a VM that has made too many (1,048,576
/// by default) ends: make them from constants only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Atom(sys::ErlDrvTermData);

impl Atom {
    /// The atom of this name (Latin-1; cut at 255 characters).
    pub fn new(name: &CStr) -> Atom {
        // SAFETY: driver_mk_atom copies the C string and may run on any thread.
        Atom(unsafe { sys::driver_mk_atom(name.as_ptr().cast_mut()) })
    }
}

/// A term under construction. It borrows what it points to until it is sent.
///
/// Malformed is a term of none or more than one at the top; with a float that
/// is not finite, an external term that is none, a map with a key twice or
/// without a value, or a tuple that is too large; with more than 2,147,483,647
/// words in all. Sending it is [`SendError::BadTerm`](crate::SendError).
///
/// ```no_run
/// # use erl_driver::{Atom, Pid, Port, SendError, Term};
/// fn tell(port: &Port, pid: Pid, fd: isize) -> Result<(), SendError> {
///     let mut term = Term::new();
///     // {ready, Port, Fd}
///     term.tuple(|t| t.atom(Atom::new(c"ready")).port(port).int(fd));
///     port.send(pid, &term)
/// }
/// ```
///
/// What it borrows must live as long as it does:
///
/// ```compile_fail,E0597
/// # use erl_driver::{Pid, Port, Term};
/// fn dangle(port: &Port, pid: Pid) {
///     let mut term = Term::new();
///     {
///         let bytes = vec![1, 2, 3];
///         term.binary(&bytes);
///     }
///     let _ = port.send(pid, &term);
/// }
/// ```
#[derive(Default)]
pub struct Term<'a> {
    words: SmallVec<[sys::ErlDrvTermData; INLINE_WORDS]>,
    /// Terms written at the level that is being built.
    count: usize,
    lifetime: PhantomData<&'a [u8]>,
}

impl<'a> Term<'a> {
    /// Nothing yet. Exactly one term must follow before it is sent.
    pub fn new() -> Self {
        Self::default()
    }

    fn element(&mut self, words: &[sys::ErlDrvTermData]) -> &mut Self {
        self.words.extend_from_slice(words);
        self.count += 1;
        self
    }

    /// Runs `build` and returns how many terms it wrote.
    fn elements(&mut self, build: impl FnOnce(&mut Self) -> &mut Self) -> usize {
        let before = std::mem::take(&mut self.count);
        build(self);
        std::mem::replace(&mut self.count, before)
    }

    /// `[]`.
    pub fn nil(&mut self) -> &mut Self {
        self.element(&[sys::ERL_DRV_NIL])
    }

    /// An atom.
    pub fn atom(&mut self, atom: Atom) -> &mut Self {
        self.element(&[sys::ERL_DRV_ATOM, atom.0])
    }

    /// An integer of the machine's word.
    pub fn int(&mut self, value: isize) -> &mut Self {
        self.element(&[sys::ERL_DRV_INT, value as sys::ErlDrvTermData])
    }

    /// An integer of 64 bits on any machine.
    pub fn int64(&mut self, value: &'a i64) -> &mut Self {
        self.element(&[sys::ERL_DRV_INT64, address(value)])
    }

    /// An unsigned integer of 64 bits.
    pub fn uint64(&mut self, value: &'a u64) -> &mut Self {
        self.element(&[sys::ERL_DRV_UINT64, address(value)])
    }

    /// A float. One that is not finite makes the send fail.
    pub fn float(&mut self, value: &'a f64) -> &mut Self {
        self.element(&[sys::ERL_DRV_FLOAT, address(value)])
    }

    /// A port.
    pub fn port(&mut self, port: &Port) -> &mut Self {
        self.element(&[sys::ERL_DRV_PORT, port.id()])
    }

    /// A process identifier. Nobody's (see [`Port::caller`]) makes the send fail.
    pub fn pid(&mut self, pid: Pid) -> &mut Self {
        self.element(&[sys::ERL_DRV_PID, pid.0])
    }

    /// A binary, copied from `bytes` when the term is sent.
    pub fn binary(&mut self, bytes: &'a [u8]) -> &mut Self {
        self.element(&[
            sys::ERL_DRV_BUF2BINARY,
            address(bytes.as_ptr()),
            bytes.len() as sys::ErlDrvTermData,
        ])
    }

    /// A list of bytes, each as an integer from 0 to 255.
    pub fn string(&mut self, bytes: &'a [u8]) -> &mut Self {
        self.element(&[
            sys::ERL_DRV_STRING,
            address(bytes.as_ptr()),
            bytes.len() as sys::ErlDrvTermData,
        ])
    }

    /// A term in the external format, version byte included. Bytes that are
    /// no such term make the send fail. Atoms in it are made if they are new:
    /// check what comes from outside before.
    pub fn external(&mut self, bytes: &'a [u8]) -> &mut Self {
        self.element(&[
            sys::ERL_DRV_EXT2TERM,
            address(bytes.as_ptr()),
            bytes.len() as sys::ErlDrvTermData,
        ])
    }

    /// A tuple of what `build` writes. More than 16,777,215 elements make the
    /// send fail.
    pub fn tuple(&mut self, build: impl FnOnce(&mut Self) -> &mut Self) -> &mut Self {
        let arity = self.elements(build);
        if arity > MAX_ARITY {
            return self.element(&[MALFORMED]);
        }
        self.element(&[sys::ERL_DRV_TUPLE, arity as sys::ErlDrvTermData])
    }

    /// A proper list of what `build` writes.
    pub fn list(&mut self, build: impl FnOnce(&mut Self) -> &mut Self) -> &mut Self {
        let length = self.elements(|t| build(t).nil());
        self.element(&[sys::ERL_DRV_LIST, length as sys::ErlDrvTermData])
    }

    /// A map; `build` writes keys and values in turn. A key that comes twice,
    /// or lacks its value, makes the send fail.
    pub fn map(&mut self, build: impl FnOnce(&mut Self) -> &mut Self) -> &mut Self {
        let written = self.elements(build);
        if written % 2 == 1 {
            return self.element(&[MALFORMED]);
        }
        self.element(&[sys::ERL_DRV_MAP, (written / 2) as sys::ErlDrvTermData])
    }

    /// The words for ERTS and their number, or `None` if this is not exactly one
    /// term, or longer than ERTS can be told.
    pub(crate) fn words(&self) -> Option<(&[sys::ErlDrvTermData], c_int)> {
        let length = c_int::try_from(self.words.len()).ok()?;
        (self.count == 1).then_some((&self.words[..], length))
    }
}

fn address<T>(pointer: *const T) -> sys::ErlDrvTermData {
    pointer.expose_provenance() as sys::ErlDrvTermData
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tuple_counts_its_elements() {
        let mut term = Term::new();
        term.tuple(|t| t.int(1).tuple(|t| t.int(2)).nil());
        assert_eq!(
            term.words().unwrap().0,
            [
                sys::ERL_DRV_INT,
                1,
                sys::ERL_DRV_INT,
                2,
                sys::ERL_DRV_TUPLE,
                1,
                sys::ERL_DRV_NIL,
                sys::ERL_DRV_TUPLE,
                3
            ]
        );
    }

    #[test]
    fn a_list_ends_in_nil() {
        let mut term = Term::new();
        term.list(|t| t.int(5));
        assert_eq!(
            term.words().unwrap().0,
            [sys::ERL_DRV_INT, 5, sys::ERL_DRV_NIL, sys::ERL_DRV_LIST, 2]
        );
    }

    #[test]
    fn a_map_counts_its_pairs() {
        let mut term = Term::new();
        term.map(|t| t.int(1).nil().int(2).nil());
        assert_eq!(
            term.words().unwrap().0[6..],
            [sys::ERL_DRV_MAP, 2],
            "{:?}",
            term.words()
        );
    }

    #[test]
    fn a_map_with_a_key_too_many_is_malformed() {
        let mut term = Term::new();
        term.map(|t| t.int(1));
        assert_eq!(term.words().unwrap().0.last(), Some(&MALFORMED));
    }

    #[test]
    fn a_tuple_larger_than_erts_can_have_is_malformed() {
        for (arity, malformed) in [(MAX_ARITY, false), (MAX_ARITY + 1, true)] {
            let mut term = Term::new();
            term.tuple(|t| {
                // As if so many had been written, which takes seconds.
                t.count = arity;
                t
            });
            let (words, _) = term.words().unwrap();
            assert_eq!(words.last() == Some(&MALFORMED), malformed);
        }
    }

    #[test]
    fn no_term_and_two_terms_are_none() {
        let mut term = Term::new();
        assert_eq!(term.words(), None);
        term.int(1).int(2);
        assert_eq!(term.words(), None);
    }
}
