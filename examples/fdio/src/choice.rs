// SPDX-License-Identifier: Apache-2.0

//! Arguments that are one atom of a few.

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
