// SPDX-License-Identifier: Apache-2.0
//! A term of lent data does not outlive the call.

use erl_driver::Term;

pub struct Pending(pub Term<'static>);

impl Pending {
    pub fn add(&mut self, data: &[u8]) {
        self.0.binary(b"constant");
        #[cfg(feature = "misuse")]
        self.0.binary(data); //~ E0521
        let _ = data;
    }
}

fn main() {}
