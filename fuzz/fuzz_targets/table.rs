// SPDX-License-Identifier: Apache-2.0
//! The table of waiters against a naive one, step by step. After each, what was touched
//! is compared, and at the end all of it; then every process exits, and nothing is left.

#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use inert_fuzz::kinds::{Kind, Kinds};
use inert_fuzz::table::Table;
use libfuzzer_sys::fuzz_target;
use std::collections::{BTreeMap, BTreeSet};

/// Few processes and fds, so that they meet; fds around a page's edges, and far away.
#[derive(Debug, Clone, Copy)]
struct Fd(i32);

const FDS: [i32; 16] = [
    0,
    1,
    2,
    3,
    62,
    63,
    64,
    65,
    127,
    128,
    129,
    4_096,
    19_999,
    1_048_575,
    -1,
    i32::MIN,
];

impl<'a> Arbitrary<'a> for Fd {
    fn arbitrary(input: &mut Unstructured<'a>) -> arbitrary::Result<Fd> {
        Ok(Fd(*input.choose(&FDS)?))
    }
}

#[derive(Debug, Clone, Copy)]
struct One(Kind);

impl<'a> Arbitrary<'a> for One {
    fn arbitrary(input: &mut Unstructured<'a>) -> arbitrary::Result<One> {
        Ok(One(*input.choose(&Kind::ALL)?))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Pid(u8);

impl<'a> Arbitrary<'a> for Pid {
    fn arbitrary(input: &mut Unstructured<'a>) -> arbitrary::Result<Pid> {
        Ok(Pid(input.int_in_range(0..=7)?))
    }
}

#[derive(Arbitrary, Debug)]
enum Step {
    Add(Pid),
    Arm(Fd, One, Pid, u8),
    Take(Fd, One),
    Exit(Pid),
    List(Fd),
}

#[derive(Default)]
struct Model {
    processes: BTreeSet<u8>,
    waiters: BTreeMap<(i32, usize), (u8, u8)>,
}

fn exit(table: &mut Table<u8, u8>, model: &mut Model, pid: u8) {
    while let Some((fd, kind)) = table.first_of(pid) {
        assert_eq!(table.take(fd, kind).map(|(owner, _)| owner), Some(pid));
        assert!(model.waiters.remove(&(fd, kind.index())).is_some());
    }
    assert!(model.waiters.values().all(|(owner, _)| *owner != pid));
    table.remove(pid);
    model.processes.remove(&pid);
    assert!(!table.knows(pid));
}

fn agree(table: &Table<u8, u8>, model: &Model, from: i32) {
    let listed = table
        .from(from)
        .map(|(fd, kind, pid, token)| ((fd, kind.index()), (pid, *token)));
    let expected = model.waiters.iter().filter(|((fd, _), _)| *fd >= from);
    assert!(listed.eq(expected.map(|(place, waiter)| (*place, *waiter))));
    let fds: BTreeSet<i32> = model.waiters.keys().map(|(fd, _)| *fd).collect();
    assert_eq!(
        (table.len(), table.fds(), table.processes()),
        (model.waiters.len(), fds.len(), model.processes.len())
    );
}

fn agree_on(table: &Table<u8, u8>, model: &Model, fd: i32) {
    let mut armed = Kinds::NONE;
    for kind in Kind::ALL {
        let waiter = model.waiters.get(&(fd, kind.index()));
        assert_eq!(
            table.get(fd, kind),
            waiter.map(|(pid, token)| (*pid, token))
        );
        if waiter.is_some() {
            armed |= kind.into();
        }
    }
    assert_eq!(table.armed(fd), armed);
    for pid in 0..8 {
        let mine = armed
            .iter()
            .filter(|kind| model.waiters[&(fd, kind.index())].0 == pid);
        assert!(table.armed_by(fd, pid).iter().eq(mine));
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let mut table: Table<u8, u8> = Table::new();
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Add(Pid(pid)) => {
                table.add(pid);
                model.processes.insert(pid);
            }
            Step::Arm(Fd(fd), One(kind), Pid(pid), token) => {
                let place = (fd, kind.index());
                let free = fd >= 0
                    && model.processes.contains(&pid)
                    && !model.waiters.contains_key(&place);
                assert_eq!(table.arm(fd, kind, pid, token), free);
                if free {
                    model.waiters.insert(place, (pid, token));
                }
                agree_on(&table, &model, fd);
            }
            Step::Take(Fd(fd), One(kind)) => {
                assert_eq!(
                    table.take(fd, kind),
                    model.waiters.remove(&(fd, kind.index()))
                );
                agree_on(&table, &model, fd);
            }
            Step::Exit(Pid(pid)) => exit(&mut table, &mut model, pid),
            Step::List(Fd(fd)) => agree(&table, &model, fd),
        }
    }
    agree(&table, &model, i32::MIN);
    for pid in 0..8 {
        exit(&mut table, &mut model, pid);
    }
    agree(&table, &model, i32::MIN);
    assert_eq!(table.len(), 0);
});
