// SPDX-License-Identifier: Apache-2.0
//! Any bytes for any command: they are refused, or are exactly what the request
//! that was read from them is written as. So no byte is overlooked, and no two
//! different inputs mean the same.

#![no_main]

use inert_fuzz::{encode, wire::decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u32, &[u8])| {
    let (command, data) = input;
    // Most numbers are no command; that is soon known.
    let command = if command < 1 << 31 {
        command % 16
    } else {
        command
    };
    if let Ok(request) = decode(command, data) {
        assert_eq!(encode(&request), (command, data.to_vec()));
    }
});
