// SPDX-License-Identifier: Apache-2.0
//! Requests that are right, built from the input as the Erlang side builds them: each
//! is read, as what was meant. With a bit more or less at the end, it is refused.

#![no_main]

use arbitrary::Arbitrary;
use inert_fuzz::encode;
use inert_fuzz::wire::{Fds, Request, Tag, decode};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Ask {
    Set(Vec<(i32, u8)>),
    Clear(Vec<(i32, u8)>),
    Check(Vec<(i32, u8)>),
    PollByKey(Vec<(i32, u8)>, i32),
    PollByReference(Vec<(i32, u8)>, String, [u8; 24], u8),
    Waiters(i32, i32),
    Describe(i32),
}

fn entries(of: &[(i32, u8)]) -> Vec<u8> {
    let write = |(fd, mode): &(i32, u8)| [fd.to_be_bytes(), mode_of(*mode).to_be_bytes()].concat();
    of.iter().flat_map(write).collect()
}

fn mode_of(byte: u8) -> i32 {
    1 + i32::from(byte % 15)
}

fn poll(of: &[(i32, u8)], tag: &[u8]) -> Vec<u8> {
    [&(of.len() as i32).to_be_bytes()[..], &entries(of), tag].concat()
}

/// As `term_to_binary/1` writes a reference; a node's name that no node has is cut
/// into one.
fn reference(node: &str, bytes: &[u8; 24], words: u8) -> Vec<u8> {
    let words = 1 + usize::from(words % 5);
    let node: String = node.chars().take(200).chain("@host".chars()).collect();
    let length = node.len();
    let mut term = vec![131, 90, 0, words as u8];
    match u8::try_from(length) {
        Ok(short) => term.extend([119, short]),
        Err(_) => {
            term.push(118);
            term.extend((length as u16).to_be_bytes());
        }
    }
    term.extend(node.bytes());
    term.extend(&bytes[..4 + 4 * words]);
    term
}

fuzz_target!(|ask: Ask| {
    let (command, data, expected) = match &ask {
        Ask::Set(of) => (7, entries(of), of),
        Ask::Clear(of) => (8, entries(of), of),
        Ask::Check(of) => (9, entries(of), of),
        Ask::PollByKey(of, key) => (10, poll(of, &key.to_be_bytes()), of),
        Ask::PollByReference(of, node, bytes, words) => {
            (10, poll(of, &reference(node, bytes, *words)), of)
        }
        Ask::Waiters(first, key) => {
            let data = [first.to_be_bytes(), key.to_be_bytes()].concat();
            assert_eq!(
                decode(11, &data),
                Ok(Request::Waiters {
                    first: *first,
                    key: *key
                })
            );
            return;
        }
        Ask::Describe(fd) => {
            assert_eq!(decode(12, &fd.to_be_bytes()), Ok(Request::Describe(*fd)));
            return;
        }
    };
    if command == 10 && expected.is_empty() {
        assert!(decode(command, &data).is_err());
        return;
    }
    let request = decode(command, &data).expect("a request that is right");
    let fds = match request {
        Request::Set(fds) | Request::Clear(fds) | Request::Check(fds) => fds,
        Request::Poll(fds, tag) => {
            assert_eq!(
                matches!(tag, Tag::Reference(_)),
                matches!(ask, Ask::PollByReference(..))
            );
            fds
        }
        other => panic!("{other:?}"),
    };
    let Fds::Set(set) = fds else {
        panic!("one fd in place of a set");
    };
    let read = set.iter().map(|entry| (entry.fd, entry.kinds.mode()));
    assert!(read.eq(expected.iter().map(|(fd, mode)| (*fd, mode_of(*mode)))));
    assert_eq!(encode(&request), (command, data.clone()));

    // Cut short or made longer, it is nothing, or no longer the same.
    for other in [
        &data[..data.len().saturating_sub(1)],
        &[&data[..], &[0]].concat(),
    ] {
        if other != data {
            assert!(decode(command, other).is_err(), "{other:?}");
        }
    }
});
