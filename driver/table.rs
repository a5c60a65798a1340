// SPDX-License-Identifier: Apache-2.0
//! The table of waiters: who waits for which kind of which fd. Plain data, which
//! knows no system calls and no ERTS.
//!
//! Three structures that refer to each other by index: a slab of waiters, pages
//! of slots (which waiter a fd's kind has), and a slab of processes, each the
//! head of a list through its waiters. So everything costs the same however
//! much is armed, and a process's death costs what it had armed.

use crate::kinds::{Kind, Kinds};
use crate::pages::Pages;
use rustc_hash::FxBuildHasher;
use slab::Slab;
use std::collections::HashMap;
use std::hash::Hash;

/// Index of a waiter or a process in its slab.
type Index = u32;
const NOBODY: Index = Index::MAX;

/// The waiters of a fd's kinds.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Slot([Index; Kind::ALL.len()]);

impl Default for Slot {
    fn default() -> Slot {
        Slot([NOBODY; Kind::ALL.len()])
    }
}

struct Waiter<T> {
    fd: i32,
    kind: Kind,
    process: Index,
    /// Neighbours in the process's list.
    previous: Index,
    next: Index,
    token: T,
}

struct Process<P> {
    pid: P,
    first: Index,
}

/// Waiters of processes `P`, each with a token `T` that says how to tell them.
pub struct Table<P, T> {
    waiters: Slab<Waiter<T>>,
    slots: Pages<Slot>,
    processes: Slab<Process<P>>,
    by_pid: HashMap<P, Index, FxBuildHasher>,
    /// Fds that have a waiter.
    fds: usize,
}

impl<P: Copy + Eq + Hash, T> Table<P, T> {
    pub fn new() -> Self {
        Table {
            waiters: Slab::new(),
            slots: Pages::new(),
            processes: Slab::new(),
            by_pid: HashMap::default(),
            fds: 0,
        }
    }

    fn index(&self, fd: i32, kind: Kind) -> Option<usize> {
        let index = self.slots.get(fd).0[kind.index()];
        (index != NOBODY).then_some(index as usize)
    }

    /// The waiter of a fd's kind.
    pub fn get(&self, fd: i32, kind: Kind) -> Option<(P, &T)> {
        let waiter = &self.waiters[self.index(fd, kind)?];
        let process = &self.processes[waiter.process as usize];
        Some((process.pid, &waiter.token))
    }

    /// The kinds of a fd that have a waiter.
    pub fn armed(&self, fd: i32) -> Kinds {
        self.kinds_of(fd, |_| true)
    }

    /// The kinds of a fd that this process waits for.
    pub fn armed_by(&self, fd: i32, pid: P) -> Kinds {
        if self.slots.get(fd) == Slot::default() {
            return Kinds::NONE;
        }
        match self.by_pid.get(&pid) {
            Some(process) => self.kinds_of(fd, |waiter| self.waiters[waiter].process == *process),
            None => Kinds::NONE,
        }
    }

    /// The kinds of a fd whose waiters' tokens are such.
    pub fn kinds(&self, fd: i32, such: impl Fn(&T) -> bool) -> Kinds {
        self.kinds_of(fd, |waiter| such(&self.waiters[waiter].token))
    }

    fn kinds_of(&self, fd: i32, mine: impl Fn(usize) -> bool) -> Kinds {
        let Slot(indices) = self.slots.get(fd);
        let mut kinds = Kinds::NONE;
        for kind in Kind::ALL {
            let index = indices[kind.index()];
            if index != NOBODY && mine(index as usize) {
                kinds |= kind.into();
            }
        }
        kinds
    }

    /// Whether the process is known, that is, added and not removed.
    pub fn knows(&self, pid: P) -> bool {
        self.by_pid.contains_key(&pid)
    }

    /// Adds a process, which can then wait.
    pub fn add(&mut self, pid: P) {
        if !self.knows(pid) {
            let index = self.processes.insert(Process { pid, first: NOBODY });
            self.by_pid.insert(pid, index as Index);
        }
    }

    /// Makes a known process the waiter of a free kind of a fd. Returns false,
    /// and changes nothing, if the process is unknown, the kind taken or the fd
    /// negative.
    pub fn arm(&mut self, fd: i32, kind: Kind, pid: P, token: T) -> bool {
        let Some(process) = self.by_pid.get(&pid).copied() else {
            return false;
        };
        if fd < 0 || self.index(fd, kind).is_some() {
            return false;
        }
        self.fds += usize::from(self.slots.get(fd) == Slot::default());
        let next = self.processes[process as usize].first;
        let index = self.waiters.insert(Waiter {
            fd,
            kind,
            process,
            previous: NOBODY,
            next,
            token,
        }) as Index;
        if let Some(next) = self.waiters.get_mut(next as usize) {
            next.previous = index;
        }
        self.processes[process as usize].first = index;
        self.slots.slot(fd).0[kind.index()] = index;
        true
    }

    /// Takes the waiter of a fd's kind out.
    pub fn take(&mut self, fd: i32, kind: Kind) -> Option<(P, T)> {
        let index = self.index(fd, kind)?;
        let waiter = self.waiters.remove(index);
        self.slots.slot(fd).0[kind.index()] = NOBODY;
        self.fds -= usize::from(self.slots.get(fd) == Slot::default());
        if let Some(next) = self.waiters.get_mut(waiter.next as usize) {
            next.previous = waiter.previous;
        }
        let process = &mut self.processes[waiter.process as usize];
        match self.waiters.get_mut(waiter.previous as usize) {
            Some(previous) => previous.next = waiter.next,
            None => process.first = waiter.next,
        }
        Some((process.pid, waiter.token))
    }

    /// What a process waits for, one of it: all, if each is taken in turn.
    pub fn first_of(&self, pid: P) -> Option<(i32, Kind)> {
        let process = &self.processes[*self.by_pid.get(&pid)? as usize];
        let waiter = self.waiters.get(process.first as usize)?;
        Some((waiter.fd, waiter.kind))
    }

    /// Forgets a process that waits for nothing.
    pub fn remove(&mut self, pid: P) {
        debug_assert_eq!(self.first_of(pid), None);
        if let Some(index) = self.by_pid.remove(&pid) {
            self.processes.remove(index as usize);
        }
    }

    /// How many waiters there are.
    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    /// How many fds have a waiter.
    pub fn fds(&self) -> usize {
        self.fds
    }

    /// How many processes are known.
    pub fn processes(&self) -> usize {
        self.processes.len()
    }

    /// What is armed of this fd and those after it, in their order.
    pub fn from(&self, fd: i32) -> impl Iterator<Item = (i32, Kind, P, &T)> {
        self.slots.from(fd).flat_map(move |(fd, _)| {
            Kind::ALL.into_iter().filter_map(move |kind| {
                let (pid, token) = self.get(fd, kind)?;
                Some((fd, kind, pid, token))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// The same, naively.
    #[derive(Default)]
    struct Model {
        processes: BTreeSet<u64>,
        waiters: BTreeMap<(i32, u8), (u64, u32)>,
    }

    #[derive(Debug, Clone)]
    enum Step {
        Add(u64),
        Arm(i32, Kind, u64, u32),
        Take(i32, Kind),
        Exit(u64),
    }

    fn fd() -> impl Strategy<Value = i32> {
        // Few numbers, so that they meet; some at the edges of a page, some far.
        prop_oneof![0..4i32, 62..66i32, Just(19_999), Just(-1), Just(i32::MIN)]
    }

    fn kind() -> impl Strategy<Value = Kind> {
        prop::sample::select(&Kind::ALL[..])
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            1 => (0..6u64).prop_map(Step::Add),
            6 => (fd(), kind(), 0..6u64, any::<u32>()).prop_map(|(f, k, p, t)| Step::Arm(f, k, p, t)),
            3 => (fd(), kind()).prop_map(|(f, k)| Step::Take(f, k)),
            1 => (0..6u64).prop_map(Step::Exit),
        ]
    }

    fn agree(table: &Table<u64, u32>, model: &Model) {
        let all: Vec<_> = table
            .from(i32::MIN)
            .map(|(f, k, p, _)| (f, k as u8, p))
            .collect();
        let expected: Vec<_> = model
            .waiters
            .iter()
            .map(|((f, k), (p, _))| (*f, *k, *p))
            .collect();
        assert_eq!(all, expected);
        let fds: BTreeSet<i32> = model.waiters.keys().map(|(fd, _)| *fd).collect();
        assert_eq!((table.len(), table.fds()), (expected.len(), fds.len()));
        for ((fd, _), (pid, _)) in &model.waiters {
            let (mut armed, mut mine) = (Kinds::NONE, Kinds::NONE);
            for kind in Kind::ALL {
                if let Some((owner, token)) = model.waiters.get(&(*fd, kind as u8)) {
                    assert_eq!(table.get(*fd, kind), Some((*owner, token)));
                    armed |= kind.into();
                    if owner == pid {
                        mine |= kind.into();
                    }
                }
            }
            assert_eq!(table.armed(*fd), armed);
            assert_eq!(table.armed_by(*fd, *pid), mine);
        }
    }

    /// Takes all of a process and forgets it, as the service does on its exit.
    fn exit(table: &mut Table<u64, u32>, pid: u64) -> BTreeSet<(i32, u8)> {
        let mut taken = BTreeSet::new();
        while let Some((fd, kind)) = table.first_of(pid) {
            assert_eq!(table.take(fd, kind).map(|(owner, _)| owner), Some(pid));
            assert!(taken.insert((fd, kind as u8)));
        }
        table.remove(pid);
        taken
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn the_table_does_what_a_naive_one_does(steps in prop::collection::vec(step(), 1..120)) {
            let mut table = Table::new();
            let mut model = Model::default();
            for step in steps {
                match step {
                    Step::Add(pid) => {
                        table.add(pid);
                        model.processes.insert(pid);
                    }
                    Step::Arm(fd, kind, pid, token) => {
                        let free = fd >= 0
                            && model.processes.contains(&pid)
                            && !model.waiters.contains_key(&(fd, kind as u8));
                        prop_assert_eq!(table.arm(fd, kind, pid, token), free);
                        if free {
                            model.waiters.insert((fd, kind as u8), (pid, token));
                        }
                    }
                    Step::Take(fd, kind) => {
                        prop_assert_eq!(table.take(fd, kind), model.waiters.remove(&(fd, kind as u8)));
                    }
                    Step::Exit(pid) => {
                        let taken = exit(&mut table, pid);
                        let had = model.waiters.iter().filter(|(_, (p, _))| *p == pid);
                        prop_assert_eq!(taken, had.map(|(key, _)| *key).collect());
                        model.waiters.retain(|_, (p, _)| *p != pid);
                        model.processes.remove(&pid);
                    }
                }
                agree(&table, &model);
            }
        }
    }

    #[test]
    fn a_death_touches_only_what_was_armed() {
        let mut table = Table::new();
        table.add(1u64);
        table.add(2u64);
        for fd in 0..8_000 {
            assert!(table.arm(fd, Kind::Read, 1, ()));
        }
        assert!(table.arm(8_000, Kind::Write, 2, ()));
        assert_eq!(table.first_of(2), Some((8_000, Kind::Write)));
        table.take(8_000, Kind::Write);
        assert_eq!(table.first_of(2), None);
        assert_eq!((table.len(), table.fds()), (8_000, 8_000));
        assert_eq!(table.from(7_990).count(), 10);
    }
}
