// SPDX-License-Identifier: Apache-2.0
//! What a term borrows lives as long as the term.

use erl_driver::{Pid, Port, SendError, Term};

pub fn tell(port: &Port, to: Pid) -> Result<(), SendError> {
    let mut term = Term::new();
    let bytes = vec![1, 2, 3];
    term.tuple(|t| t.binary(&bytes).string(&bytes).external(&bytes));
    #[cfg(feature = "misuse")]
    term.binary(&vec![1, 2, 3]); //~ E0716
    #[cfg(feature = "misuse")]
    term.tuple(|t| {
        let bytes = vec![1, 2, 3];
        t.binary(&bytes) //~ E0597
    });
    port.send(to, &term)
}

fn main() {}
