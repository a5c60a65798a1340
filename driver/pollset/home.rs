// SPDX-License-Identifier: Apache-2.0
//! Where ERTS should watch the epoll instance: a policy, which knows numbers only.

/// Rounds of `ready_input` without a deselect after which ERTS moves a fd into
/// the scheduler pollset: more than 10 (erl_check_io.c). One is left to spare.
const ROUNDS_TO_STAY: u32 = 9;

/// What is to be done with the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nothing.
    Keep,
    /// Have ERTS watch it anew, on the poll thread.
    Anew,
}

/// See the module's documentation.
pub struct Home {
    rounds: u32,
    /// Mean of the events per `ready_input`, in sixteenths.
    load: u32,
}

/// From so many events per `ready_input` on, in sixteenths, the scheduler pollset
/// is the better place.
const BUSY: u32 = 3 * 16;

impl Home {
    pub fn new() -> Home {
        Home { rounds: 0, load: 0 }
    }

    /// ERTS has called `ready_input`, and so many events were there.
    pub fn after_ready(&mut self, events: usize) -> Place {
        self.load = (self.load * 7 + 16 * events as u32) / 8;
        self.rounds += 1;
        if self.load < BUSY && self.rounds >= ROUNDS_TO_STAY {
            self.rounds = 0;
            return Place::Anew;
        }
        Place::Keep
    }

    /// Whether it is worth while to look for events when something is armed.
    pub fn drains_in_control(&self) -> bool {
        self.load < BUSY
    }
}
