// SPDX-License-Identifier: Apache-2.0

//! Calls that want a terminal: the settings of a serial line.

use rustix::io::Result;
use rustix::termios::{
    ControlModes, InputModes, OptionalActions, Termios, ioctl_tiocexcl, tcgetattr as sys_tcgetattr,
    tcsetattr as sys_tcsetattr,
};
use rustler::{Atom, Decoder, Error, MapIterator, NifMap, NifResult, NifUnitEnum, Term};

use crate::errno::{Done, Reply};
use crate::fd::Fd;

mod atoms {
    rustler::atoms! { speed, data_bits, parity, stop_bits, flow }
}

#[derive(NifUnitEnum)]
enum Parity {
    None,
    Even,
    Odd,
}

#[derive(NifUnitEnum)]
enum Flow {
    None,
    Hardware,
    Software,
}

/// What a line is set to.
#[derive(NifMap)]
struct Line {
    speed: u32,
    data_bits: u32,
    parity: Parity,
    stop_bits: u32,
    flow: Flow,
}

/// The settings to change; others stay.
#[derive(Default)]
struct Changes {
    speed: Option<u32>,
    data_bits: Option<ControlModes>,
    parity: Option<Parity>,
    two_stop_bits: Option<bool>,
    flow: Option<Flow>,
}

impl<'a> Decoder<'a> for Changes {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let mut changes = Self::default();
        for (key, value) in MapIterator::new(term).ok_or(Error::BadArg)? {
            let key: Atom = key.decode()?;
            if key == atoms::speed() {
                changes.speed = Some(positive(value)?);
            } else if key == atoms::data_bits() {
                changes.data_bits = Some(character_size(value)?);
            } else if key == atoms::parity() {
                changes.parity = Some(one_of(value)?);
            } else if key == atoms::stop_bits() {
                changes.two_stop_bits = Some(is_two(value)?);
            } else if key == atoms::flow() {
                changes.flow = Some(one_of(value)?);
            } else {
                return Err(Error::BadArg);
            }
        }
        Ok(changes)
    }
}

/// Speed 0 would hang up.
fn positive(term: Term<'_>) -> NifResult<u32> {
    match term.decode()? {
        0 => Err(Error::BadArg),
        number => Ok(number),
    }
}

fn character_size(term: Term<'_>) -> NifResult<ControlModes> {
    match term.decode()? {
        5 => Ok(ControlModes::CS5),
        6 => Ok(ControlModes::CS6),
        7 => Ok(ControlModes::CS7),
        8 => Ok(ControlModes::CS8),
        _ => Err(Error::BadArg),
    }
}

fn is_two(term: Term<'_>) -> NifResult<bool> {
    match term.decode()? {
        1 => Ok(false),
        2 => Ok(true),
        _ => Err(Error::BadArg),
    }
}

/// For an atom that is none of the enum's rustler would raise another error.
fn one_of<'a, T: Decoder<'a>>(term: Term<'a>) -> NifResult<T> {
    term.decode().map_err(|_| Error::BadArg)
}

/// What changes on the settings of a line, on top of raw mode.
fn apply(changes: &Changes, settings: &mut Termios) -> Result<()> {
    settings.make_raw();
    // Without CREAD nothing is received. With CLOCAL the line works whatever
    // the modem control lines say: most devices do not connect them.
    settings.control_modes |= ControlModes::CREAD | ControlModes::CLOCAL;
    if let Some(speed) = changes.speed {
        settings.set_speed(speed)?;
    }
    if let Some(size) = changes.data_bits {
        settings.control_modes -= ControlModes::CSIZE;
        settings.control_modes |= size;
    }
    if let Some(parity) = &changes.parity {
        let (enabled, odd) = match parity {
            Parity::None => (false, false),
            Parity::Even => (true, false),
            Parity::Odd => (true, true),
        };
        settings.control_modes.set(ControlModes::PARENB, enabled);
        settings.control_modes.set(ControlModes::PARODD, odd);
        // A byte with a wrong parity is then read as 0.
        settings.input_modes.set(InputModes::INPCK, enabled);
    }
    if let Some(two) = changes.two_stop_bits {
        settings.control_modes.set(ControlModes::CSTOPB, two);
    }
    if let Some(flow) = &changes.flow {
        let (hardware, software) = match flow {
            Flow::None => (false, false),
            Flow::Hardware => (true, false),
            Flow::Software => (false, true),
        };
        settings.control_modes.set(ControlModes::CRTSCTS, hardware);
        settings.input_modes.set(InputModes::IXON, software);
        settings.input_modes.set(InputModes::IXOFF, software);
        settings.input_modes -= InputModes::IXANY;
    }
    Ok(())
}

fn line(settings: &Termios) -> Line {
    let control = settings.control_modes;
    let size = control & ControlModes::CSIZE;
    Line {
        speed: settings.output_speed(),
        data_bits: match size {
            ControlModes::CS5 => 5,
            ControlModes::CS6 => 6,
            ControlModes::CS7 => 7,
            _ => 8,
        },
        parity: match (
            control.contains(ControlModes::PARENB),
            control.contains(ControlModes::PARODD),
        ) {
            (false, _) => Parity::None,
            (true, false) => Parity::Even,
            (true, true) => Parity::Odd,
        },
        stop_bits: 1 + u32::from(control.contains(ControlModes::CSTOPB)),
        flow: if control.contains(ControlModes::CRTSCTS) {
            Flow::Hardware
        } else if settings.input_modes.contains(InputModes::IXON) {
            Flow::Software
        } else {
            Flow::None
        },
    }
}

#[rustler::nif]
fn tcgetattr(fd: Fd) -> Reply<Line> {
    Ok(line(&sys_tcgetattr(fd.borrow()?)?))
}

#[rustler::nif]
fn tcsetattr(fd: Fd, changes: Changes) -> Done {
    let set = || {
        let fd = fd.borrow()?;
        let mut settings = sys_tcgetattr(fd)?;
        apply(&changes, &mut settings)?;
        // The other actions wait until what was written has been sent.
        sys_tcsetattr(fd, OptionalActions::Now, &settings)
    };
    set().into()
}

#[rustler::nif]
fn tiocexcl(fd: Fd) -> Done {
    fd.borrow().and_then(ioctl_tiocexcl).into()
}
