// SPDX-License-Identifier: Apache-2.0

//! Without the feature `bindgen` there is nothing to do: the committed bindings
//! need neither a header nor libclang. With it, generates the bindings from the
//! installed header; and, for the script `regenerate`, the committed files.

#[cfg(feature = "bindgen")]
#[path = "build/generate.rs"]
mod generate;
#[cfg(feature = "bindgen")]
#[path = "build/headers.rs"]
mod headers;
#[cfg(feature = "bindgen")]
#[path = "build/regenerate.rs"]
mod regenerate;

#[cfg(not(feature = "bindgen"))]
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
}

#[cfg(feature = "bindgen")]
fn main() {
    if let Err(message) = run() {
        eprintln!("erl_driver-sys: {message}");
        std::process::exit(1);
    }
}

/// Set by the script `regenerate`: where the files to commit are to go.
#[cfg(feature = "bindgen")]
const REGENERATE: &str = "ERL_DRIVER_SYS_REGENERATE";

#[cfg(feature = "bindgen")]
fn run() -> Result<(), String> {
    use std::{env, fs, path::PathBuf};

    println!("cargo:rerun-if-env-changed={REGENERATE}");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-changed=c_src_shim");

    let directory = |key| env::var_os(key).map(PathBuf::from);
    let shim = directory("CARGO_MANIFEST_DIR")
        .ok_or("run me with cargo")?
        .join("c_src_shim");
    let out = directory("OUT_DIR").ok_or("run me with cargo")?;
    let headers = headers::include_dir()?;

    let bindings = generate::bindings(&generate::Input {
        shim: &shim,
        headers: &headers,
        scratch: &out,
        target: None,
    })?;
    let file = out.join("bindings.rs");
    fs::write(&file, bindings)
        .map_err(|error| format!("cannot write {}: {error}", file.display()))?;

    match directory(REGENERATE) {
        Some(to) => regenerate::all(&shim, &headers, &out, &to),
        None => Ok(()),
    }
}
