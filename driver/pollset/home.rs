// SPDX-License-Identifier: Apache-2.0
//! Where ERTS should watch the epoll instance, and when to look into it without
//! ERTS: a policy, which knows numbers only.
//!
//! ERTS's poll thread suits a quiet instance: an event wakes it, and the port is
//! scheduled at once. The scheduler pollset suits a busy one: no thread is woken
//! for each batch, and batches grow. Echo over loopback TCP, 64 bytes, requests
//! per second, medians of 4 runs in turns on a noisy machine (2 cores, OTP 25), the
//! other columns with BUSY and MOST set so that they are never or always reached:
//!
//! | connections | always poll thread | always schedulers | this policy |
//! | ---: | ---: | ---: | ---: |
//! | 1 | 37,400 | 36,700 | 36,600 |
//! | 10 | 76,400 | 70,800 | 79,400 |
//! | 100 | 73,400 | 76,200 | 85,700 |
//!
//! Looking into the instance when something is armed saves the way through ERTS
//! where processes of one VM talk to each other: a round trip of one pair took 30 us
//! without and 19 us with it (medians of 3). An external client's events are not there yet
//! then, so a look that keeps finding nothing is taken rarely.
//!
//! The state is `rounds` (ERTS's own count, as far as it can be known), and two
//! means. Leaving the poll thread is a matter of not deselecting in time.
//!
//! In newer ERTS (17 has it, 15 has not) deselecting does not set the count back. Whoever
//! counts on it deselects and selects an instance that has moved, inside `ready_input`, and
//! that loses it. There the instance stays where ERTS takes it, which is the scheduler
//! pollset from round 12 on.

/// From this round of `ready_input` on without a deselect, the instance is taken
/// to be in the scheduler pollset. ERTS moves it at the end of the round in which
/// its count has passed 10 (erl_check_io.c), which is round 12, or 11 if the
/// round of the last deselect was counted; one is spared.
const ROUNDS_TO_MOVE: u32 = 10;
/// The last round after which ERTS moves an instance that was not deselected.
const ROUND_OF_MOVE: u32 = 12;
/// The round in which to deselect for staying on the poll thread. Deselecting
/// later would lose an instance that has moved: see `Epoll::stay`.
const ROUNDS_TO_STAY: u32 = 9;

/// Events per `ready_input`, in sixteenths, from which on the instance is busy.
const BUSY: u32 = 3 * 16;
/// A larger batch counts as this, so that one burst is forgotten in a dozen rounds.
const LARGE: usize = 16;

/// Shares of the looks into the instance that found something, in 1024ths: from
/// the one on it pays to look at every arming, from the other on most events are
/// found so.
const PAYS: u32 = 1024 / 8;
const MOST: u32 = 1024 / 2;
/// While it does not pay: one arming in so many looks all the same.
const PROBE: u32 = 16;

/// Adding an epoll instance to another takes the kernel a walk over all that is
/// registered in it, some 100 ns for each (ep_loop_check_proc), so a move has to
/// be worth that: so many registrations per round that must have gone by.
const REGISTERED_PER_ROUND: u32 = 4;

/// What is to be done with the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Nothing.
    Keep,
    /// Set ERTS's count back: the instance is on the poll thread, and stays.
    Stay,
    /// Make way: ERTS may move the instance to the scheduler pollset after this round.
    Leave,
    /// Take the instance out of the scheduler pollset.
    Return,
}

/// See the module's documentation.
pub struct Home {
    steers: bool,
    /// Rounds since ERTS's count was 0.
    rounds: u32,
    /// Rounds since the instance was last moved.
    settled: u32,
    /// Mean of the events per `ready_input` that had any, in sixteenths.
    batch: u32,
    /// Mean of the looks that found something, in 1024ths.
    found: u32,
    armings: u32,
    /// How often the instance was let move, and was taken back.
    pub migrated: u64,
    pub returned: u64,
}

impl Home {
    /// `steers`: whether it can be helped where ERTS watches the instance.
    pub fn new(steers: bool) -> Home {
        Home {
            steers,
            rounds: 0,
            settled: 0,
            batch: 0,
            found: 0,
            armings: 0,
            migrated: 0,
            returned: 0,
        }
    }

    fn is_busy(&self) -> bool {
        self.batch >= BUSY || self.found >= MOST
    }

    /// ERTS has called `ready_input`, and so many events were there.
    pub fn after_ready(&mut self, events: usize, registered: u32) -> Advice {
        if events > 0 {
            self.batch = (self.batch * 7 + 16 * events.min(LARGE) as u32) / 8;
        }
        self.rounds = self.rounds.saturating_add(1);
        self.settled = self.settled.saturating_add(1);
        let may_move = self.settled >= registered / REGISTERED_PER_ROUND;
        match self.rounds {
            _ if !self.steers => {}
            ROUNDS_TO_STAY if may_move && self.is_busy() => {
                self.settled = 0;
                self.migrated += 1;
            }
            ROUNDS_TO_STAY => {
                self.rounds = 0;
                return Advice::Stay;
            }
            ROUNDS_TO_MOVE.. if may_move && !self.is_busy() => {
                self.rounds = 0;
                self.settled = 0;
                self.returned += 1;
                return Advice::Return;
            }
            _ => {}
        }
        match self.leaves() {
            true => Advice::Leave,
            false => Advice::Keep,
        }
    }

    /// Whether ERTS may move the instance after this round, or the next one.
    pub fn leaves(&self) -> bool {
        let first = match self.steers {
            true => ROUNDS_TO_STAY,
            // A number's count may be that of its last file.
            false => 1,
        };
        (first..=ROUND_OF_MOVE).contains(&self.rounds)
    }

    /// Advised to leave, the instance cannot: whether it can still be helped, and so stays.
    pub fn stays(&mut self) -> bool {
        let stays = self.steers && self.rounds == ROUNDS_TO_STAY;
        if stays {
            self.rounds = 0;
            self.migrated -= 1;
        }
        stays
    }

    /// Something was armed: whether to look into the instance now.
    pub fn looks(&mut self) -> bool {
        self.armings = self.armings.wrapping_add(1);
        self.batch < BUSY && (self.found >= PAYS || self.armings % PROBE == 0)
    }

    /// A look found so many events.
    pub fn after_look(&mut self, events: usize) {
        let found = if events > 0 { 1024 } else { 0 };
        self.found = (self.found * 15 + found) / 16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_instance_never_moves() {
        let mut home = Home::new(true);
        let stays = (0..900)
            .filter(|_| home.after_ready(1, 10) == Advice::Stay)
            .count();
        assert_eq!((home.migrated, stays), (0, 100));
    }

    #[test]
    fn nothing_is_done_where_it_does_not_help() {
        let mut home = Home::new(false);
        for round in 0..1_000 {
            let events = if round / 100 % 2 == 0 { 1 } else { 100 };
            let expected = match round {
                ..ROUND_OF_MOVE => Advice::Leave,
                _ => Advice::Keep,
            };
            assert_eq!(home.after_ready(events, 10), expected);
        }
        assert_eq!((home.migrated, home.returned), (0, 0));
    }

    #[test]
    fn a_busy_instance_is_let_move_and_comes_back() {
        let mut home = Home::new(true);
        for round in 1..=100 {
            let expected = match round {
                ROUNDS_TO_STAY..=ROUND_OF_MOVE => Advice::Leave,
                _ => Advice::Keep,
            };
            assert_eq!(home.after_ready(100, 10), expected);
        }
        assert_eq!(home.migrated, 1);
        let rounds = (0..100).position(|_| home.after_ready(1, 10) == Advice::Return);
        assert!(rounds.is_some_and(|rounds| rounds < 16), "{rounds:?}");
    }

    #[test]
    fn an_instance_that_cannot_leave_stays() {
        let mut home = Home::new(true);
        let leaves = (0..100)
            .filter(|_| home.after_ready(100, 10) == Advice::Leave && home.stays())
            .count();
        assert_eq!((leaves, home.migrated), (100 / ROUNDS_TO_STAY as usize, 0));
        // Later it is too late, and where ERTS does as it likes it always is.
        let leave = |home: &mut Home| while home.after_ready(100, 10) != Advice::Leave {};
        leave(&mut home);
        leave(&mut home);
        assert!(!home.stays());
        let mut home = Home::new(false);
        leave(&mut home);
        assert!(!home.stays());
    }

    #[test]
    fn moves_are_rare_where_much_is_registered() {
        let mut home = Home::new(true);
        for round in 0..80_000 {
            home.after_ready(if round / 100 % 2 == 0 { 1 } else { 100 }, 8_000);
        }
        assert!(home.migrated + home.returned <= 80_000 / 2_000);
        assert!(home.migrated > 0);
    }

    #[test]
    fn looking_pays_while_it_finds_something() {
        let mut home = Home::new(true);
        let looks = |home: &mut Home, events| {
            (0..1600)
                .filter(|_| {
                    let look = home.looks();
                    if look {
                        home.after_look(events);
                    }
                    look
                })
                .count()
        };
        assert_eq!(looks(&mut home, 0), 100);
        assert!(looks(&mut home, 1) > 1_500);
        assert!(looks(&mut home, 0) < 150);
    }
}
