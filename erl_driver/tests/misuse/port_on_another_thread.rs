// SPDX-License-Identifier: Apache-2.0
//! Another thread gets no port, not even one that ends before the callback does.

use erl_driver::Port;

pub fn elsewhere(port: &Port) {
    let owner = port.owner();
    std::thread::scope(|scope| {
        scope.spawn(move || owner);
        #[cfg(feature = "misuse")]
        scope.spawn(|| port.owner()); //~ E0277
    });
}

fn main() {}
