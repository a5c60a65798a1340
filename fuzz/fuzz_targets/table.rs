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

const PIDS: u8 = 4;

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
        Ok(Pid(input.int_in_range(0..=PIDS - 1)?))
    }
}

#[derive(Arbitrary, Debug)]
enum Step {
    Add(Pid),
    Arm(Fd, One, Pid, u8),
    Take(Fd, One),
    /// One that is armed, for certain.
    TakeArmed(u8),
    Exit(Pid),
    List(Fd),
}

/// As many steps as the input has bytes for; a `Vec` would take two on average.
#[derive(Debug)]
struct Steps(Vec<Step>);

impl<'a> Arbitrary<'a> for Steps {
    fn arbitrary(input: &mut Unstructured<'a>) -> arbitrary::Result<Steps> {
        let mut steps = Vec::new();
        while !input.is_empty() {
            steps.push(input.arbitrary()?);
        }
        Ok(Steps(steps))
    }
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
    for pid in 0..PIDS {
        let mine = armed
            .iter()
            .filter(|kind| model.waiters[&(fd, kind.index())].0 == pid);
        assert!(table.armed_by(fd, pid).iter().eq(mine));
    }
}

fuzz_target!(|steps: Steps| {
    let mut table: Table<u8, u8> = Table::new();
    let mut model = Model::default();
    for step in steps.0 {
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
            Step::TakeArmed(nth) => {
                let nth = usize::from(nth) % model.waiters.len().max(1);
                let Some(place) = model.waiters.keys().nth(nth).copied() else {
                    continue;
                };
                let kind = Kind::ALL[place.1];
                assert_eq!(table.take(place.0, kind), model.waiters.remove(&place));
                agree_on(&table, &model, place.0);
            }
            Step::Exit(Pid(pid)) => exit(&mut table, &mut model, pid),
            Step::List(Fd(fd)) => agree(&table, &model, fd),
        }
    }
    agree(&table, &model, i32::MIN);
    for pid in 0..PIDS {
        exit(&mut table, &mut model, pid);
    }
    agree(&table, &model, i32::MIN);
    assert_eq!(table.len(), 0);
});
