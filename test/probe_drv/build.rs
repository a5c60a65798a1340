// SPDX-License-Identifier: Apache-2.0

//! The functions of the driver API are the VM's. ELF linkers let a shared
//! object leave them to the load; macOS's has to be told.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_VENDOR").as_deref() == Ok("apple") {
        println!("cargo:rustc-cdylib-link-arg=-undefined");
        println!("cargo:rustc-cdylib-link-arg=dynamic_lookup");
    }
}
