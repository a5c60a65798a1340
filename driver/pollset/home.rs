// SPDX-License-Identifier: Apache-2.0
//! Where ERTS should watch the epoll instance: a policy, which knows numbers only.

/// The round of `ready_input` without a deselect after which ERTS moves a fd into
/// the scheduler pollset: the count has to pass 10 (erl_check_io.c).
const ROUNDS_TO_MOVE: u32 = 12;
/// The round in which to deselect for staying on the poll thread.
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
    /// How often `Anew` was the answer, and how often a move was let happen.
    pub rehomed: u64,
    pub migrated: u64,
}

/// From so many events per `ready_input` on, in sixteenths, the scheduler pollset
/// is the better place.
const BUSY: u32 = 3 * 16;

/// A longer drain counts as this, so that one burst is forgotten in a dozen rounds.
const BURST: usize = 16;

impl Home {
    pub fn new() -> Home {
        Home {
            rounds: 0,
            load: 0,
            rehomed: 0,
            migrated: 0,
        }
    }

    /// ERTS has called `ready_input`, and so many events were there.
    pub fn after_ready(&mut self, events: usize) -> Place {
        let events = events.min(BURST) as u32;
        self.load = (self.load * 7 + 16 * events) / 8;
        self.rounds = self.rounds.saturating_add(1);
        if self.rounds == ROUNDS_TO_MOVE {
            self.migrated += 1;
        }
        if self.load < BUSY && self.rounds >= ROUNDS_TO_STAY {
            self.rounds = 0;
            self.rehomed += 1;
            return Place::Anew;
        }
        Place::Keep
    }

    /// Whether it is worth while to look for events when something is armed.
    pub fn drains_in_control(&self) -> bool {
        self.load < BUSY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_instance_never_moves() {
        let mut home = Home::new();
        for _ in 0..1_000 {
            home.after_ready(1);
        }
        assert_eq!(home.migrated, 0);
        assert_eq!(home.rehomed, 1_000 / u64::from(ROUNDS_TO_STAY));
    }

    #[test]
    fn a_busy_instance_is_let_move_and_comes_back() {
        let mut home = Home::new();
        for _ in 0..100 {
            assert_eq!(home.after_ready(100), Place::Keep);
        }
        assert_eq!(home.migrated, 1);
        let rounds = (0..100).position(|_| home.after_ready(1) == Place::Anew);
        assert!(rounds.is_some_and(|rounds| rounds < 16), "{rounds:?}");
    }
}
