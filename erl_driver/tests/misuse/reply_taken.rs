// SPDX-License-Identifier: Apache-2.0
//! Nor is it taken out of the callback's hands, or filled by another thread.

use erl_driver::Reply;

pub fn take(reply: &mut Reply) -> usize {
    let taken: &Reply = reply;
    #[cfg(feature = "misuse")]
    let taken = { *taken }; //~ E0507
    taken.len()
}

pub fn fill(reply: &mut Reply) {
    std::thread::scope(|scope| {
        scope.spawn(|| b"bytes");
        #[cfg(feature = "misuse_types")]
        scope.spawn(|| reply.push(b"bytes")); //~ E0277
    });
    reply.clear();
}

fn main() {}
