// SPDX-License-Identifier: Apache-2.0

//! Compiles the C shim into the driver, and by that checks the installed
//! Erlang's `erl_driver.h` against the committed bindings.

#[path = "erl_driver-sys/build/headers.rs"]
mod headers;

use std::env;
use std::path::{Path, PathBuf};
use std::process;

fn main() {
    if let Err(message) = run() {
        // Not a panic: whoever reads this wants the message, not a backtrace.
        eprintln!("inert: {message}");
        process::exit(1);
    }
}

fn run() -> Result<(), String> {
    let root = env::var_os("CARGO_MANIFEST_DIR").ok_or("build.rs is run by cargo")?;
    let shim = PathBuf::from(root).join("c_src_shim");
    println!("cargo:rerun-if-changed={}", shim.display());
    compile(&shim, &headers::include_dir()?)?;
    link_arguments();
    Ok(())
}

/// `+whole-archive`, because the linker meets the archive before the crates
/// that call it, and a shared object may leave symbols undefined: without it,
/// what is missing would be noticed by the VM only.
fn compile(shim: &Path, headers: &Path) -> Result<(), String> {
    cc::Build::new()
        .file(shim.join("shim.c"))
        .include(headers)
        .std("c11")
        .flag_if_supported("-fvisibility=hidden")
        .link_lib_modifier("+whole-archive")
        .try_compile("inert_shim")
        .map_err(|error| {
            format!(
                "the C part of the driver does not compile against the headers in {}.\n\
                 The warnings from shim.c tell why. If erl_driver.h differs from what is expected, \
                 see erl_driver-sys/README.md;\nif there is no C compiler, install one or set CC. \
                 To use another Erlang's headers, set ERTS_INCLUDE_DIR.\n\n{error}",
                headers.display()
            )
        })
}

/// The functions of the driver API are the VM's. ELF linkers let a shared
/// object leave them to the load; macOS's has to be told.
fn link_arguments() {
    if env::var("CARGO_CFG_TARGET_VENDOR").as_deref() == Ok("apple") {
        println!("cargo:rustc-cdylib-link-arg=-undefined");
        println!("cargo:rustc-cdylib-link-arg=dynamic_lookup");
    }
}
