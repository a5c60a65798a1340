// SPDX-License-Identifier: Apache-2.0
//! The wire of `probe_SUITE`: a command's number and its data, numbers in them
//! big-endian.

use crate::deed::{Callback, Deed};
use erl_driver::Mode;
use std::time::Duration;

pub enum Command<'a> {
    List(&'a [u8]),
    Binary(&'a [u8]),
    Bytewise(&'a [u8]),
    Cleared(&'a [u8]),
    Refuse(&'a [u8]),
    Opened,
    Plan(Callback, Deed),
    Select(i32, Mode),
    Deselect(i32, Mode),
    Stopped,
    /// Of the remembered process, else of the caller.
    Monitor,
    Demonitor(usize),
    Monitored(usize),
    Same(usize, usize),
    Timer(Duration),
    CancelTimer,
    Term(&'a [u8]),
    External(&'a [u8]),
    /// Remembers the caller.
    Remember,
    SendRemembered(&'a [u8]),
    SendOwner(&'a [u8]),
    Output(&'a [u8]),
    Consume(u8),
    Busy(bool),
    Allocate(usize),
    Aligned(usize),
    Errno(i32),
    Who,
    CatchOwnPanic,
    ErtsVersion,
}

impl<'a> Command<'a> {
    /// `None` for what is none of them.
    pub fn parse(command: u32, data: &'a [u8]) -> Option<Command<'a>> {
        Some(match command {
            1 => Command::List(data),
            2 => Command::Binary(data),
            3 => Command::Bytewise(data),
            4 => Command::Cleared(data),
            5 => Command::Refuse(data),
            6 => Command::Opened,
            7 => {
                let (callback, deed) = data.split_at_checked(1)?;
                Command::Plan(Callback::parse(callback[0])?, Deed::parse(deed)?)
            }
            8 => select(data, Command::Select)?,
            9 => select(data, Command::Deselect)?,
            10 => Command::Stopped,
            11 => Command::Monitor,
            12 => Command::Demonitor(index(data)?),
            13 => Command::Monitored(index(data)?),
            14 => {
                let [one, other] = data else { return None };
                Command::Same((*one).into(), (*other).into())
            }
            15 => Command::Timer(match data {
                [] => Duration::MAX,
                _ => Duration::from_micros(u64::from_be_bytes(data.try_into().ok()?)),
            }),
            16 => Command::CancelTimer,
            17 => Command::Term(data),
            18 => Command::External(data),
            19 => Command::Remember,
            20 => Command::SendRemembered(data),
            21 => Command::SendOwner(data),
            22 => Command::Output(data),
            23 => Command::Consume(*data.first()?),
            24 => Command::Busy(*data.first()? != 0),
            25 => Command::Allocate(size(data)?),
            26 => Command::Aligned(size(data)?),
            27 => Command::Errno(i32::from_be_bytes(data.try_into().ok()?)),
            28 => Command::Who,
            29 => Command::CatchOwnPanic,
            30 => Command::ErtsVersion,
            _ => return None,
        })
    }
}

fn index(data: &[u8]) -> Option<usize> {
    Some((*data.first()?).into())
}

fn size(data: &[u8]) -> Option<usize> {
    usize::try_from(u64::from_be_bytes(data.try_into().ok()?)).ok()
}

/// The fd, and a byte with a bit for each mode.
fn select<'a>(data: &[u8], command: impl Fn(i32, Mode) -> Command<'a>) -> Option<Command<'a>> {
    let (fd, bits) = data.split_first_chunk::<4>()?;
    let all = [
        (1, Mode::READ),
        (2, Mode::WRITE),
        (4, Mode::USE),
        (8, Mode::USE_NO_CALLBACK),
    ];
    let mode = all
        .into_iter()
        .filter(|(bit, _)| bits.first().is_some_and(|bits| bits & bit != 0))
        .map(|(_, mode)| mode)
        .reduce(|one, other| one | other)?;
    Some(command(i32::from_be_bytes(*fd), mode))
}
