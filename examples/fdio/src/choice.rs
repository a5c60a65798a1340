// SPDX-License-Identifier: Apache-2.0

//! Arguments that are one atom of a few, or a list.

use rustler::{Decoder, NifResult, Term};

/// A list. rustler's own decoder panics where a list is improper; this is badarg.
pub struct List<T>(pub Vec<T>);

impl<'a, T: Decoder<'a>> Decoder<'a> for List<T> {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        term.list_length()?;
        Ok(Self(term.decode()?))
    }
}

/// An enum and how it decodes from the atom of each variant. As rustler's
/// `NifUnitEnum`, but for another atom it raises badarg, as everything in fdio.
macro_rules! choice {
    ($name:ident { $($variant:ident $atom:ident),* $(,)? }) => {
        #[derive(Clone, Copy, PartialEq)]
        enum $name {
            $($variant),*
        }

        impl<'a> rustler::Decoder<'a> for $name {
            fn decode(term: rustler::Term<'a>) -> rustler::NifResult<Self> {
                mod atoms {
                    rustler::atoms! { $($atom),* }
                }
                let given: rustler::Atom = term.decode()?;
                $(if given == atoms::$atom() {
                    return Ok(Self::$variant);
                })*
                Err(rustler::Error::BadArg)
            }
        }
    };
}

pub(crate) use choice;
