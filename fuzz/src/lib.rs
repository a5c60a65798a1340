// SPDX-License-Identifier: Apache-2.0
//! The driver's modules that need no VM, as they are, and what the fuzz targets
//! share: a second encoder, written from the table at the top of `driver/wire.rs`.

#![allow(dead_code)]

#[path = "../../driver/kinds.rs"]
pub mod kinds;
#[path = "../../driver/pages.rs"]
pub mod pages;
#[path = "../../driver/reference.rs"]
pub mod reference;
#[path = "../../driver/sys.rs"]
pub mod sys;
#[path = "../../driver/table.rs"]
pub mod table;
#[path = "../../driver/wire.rs"]
pub mod wire;

use wire::{Entry, Fds, Request, Tag};

/// The command and the bytes that ask for this request. A reference is written by
/// the code under test, whose bytes are then compared with those that it was read
/// from.
pub fn encode(request: &Request) -> (u32, Vec<u8>) {
    let mut data = Vec::new();
    let command = match request {
        Request::Set(fds) => 1 + 6 * set(*fds, &mut data),
        Request::Clear(fds) => 2 + 6 * set(*fds, &mut data),
        Request::Check(fds) => 3 + 6 * set(*fds, &mut data),
        Request::Poll(fds, tag) => {
            let mut entries = Vec::new();
            let is_set = set(*fds, &mut entries);
            if is_set == 1 {
                number((entries.len() / 8) as i32, &mut data);
            }
            data.append(&mut entries);
            match tag {
                Tag::Key(key) => number(*key, &mut data),
                Tag::Reference(reference) => {
                    let kept = reference::Keeper::default().keep(*reference);
                    kept.expect("a keeper takes its first").write(&mut data);
                }
            }
            4 + 6 * is_set
        }
        Request::Cancel(entry) => {
            write(*entry, &mut data);
            5
        }
        Request::Info => 6,
        Request::Waiters { first, key } => {
            number(*first, &mut data);
            number(*key, &mut data);
            11
        }
        Request::Describe(fd) => {
            number(*fd, &mut data);
            12
        }
    };
    (command, data)
}

/// Writes the entries; 1 if they are a set, 0 if they are one.
fn set(fds: Fds, to: &mut Vec<u8>) -> u32 {
    match fds {
        Fds::One(entry) => {
            write(entry, to);
            0
        }
        Fds::Set(set) => {
            set.iter().for_each(|entry| write(entry, to));
            1
        }
    }
}

fn write(entry: Entry, to: &mut Vec<u8>) {
    let mode: i32 = entry.kinds.iter().map(|kind| 1 << kind.index()).sum();
    assert!((1..=15).contains(&mode));
    number(entry.fd, to);
    number(mode, to);
}

fn number(number: i32, to: &mut Vec<u8>) {
    to.extend(number.to_be_bytes());
}
