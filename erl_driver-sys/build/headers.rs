// SPDX-License-Identifier: Apache-2.0

//! Finds the `erl_driver.h` to build against. Knows nothing of bindgen and of
//! the C compiler. The build script of the root package shares this file.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names the directory to use, whatever Erlang is in the path.
const OVERRIDE: &str = "ERTS_INCLUDE_DIR";

/// The header that is looked for; its companions live beside it.
const HEADER: &str = "erl_driver.h";

/// What a build against `HEADER` reads, besides it.
const COMPANIONS: [&str; 2] = ["erl_drv_nif.h", "erl_int_sizes_config.h"];

/// Prints the two things that lead to the headers, a line each.
const WHERE: &str =
    r#"io:format("~ts~n~ts~n", [code:root_dir(), erlang:system_info(version)]), halt(0)."#;

/// The directory that holds `erl_driver.h`, or a message that says what to do.
///
/// Tells cargo to run the build script again when the answer may differ.
pub fn include_dir() -> Result<PathBuf, String> {
    println!("cargo:rerun-if-env-changed={OVERRIDE}");
    let dir = match env::var_os(OVERRIDE) {
        Some(dir) => overridden(dir.into())?,
        None if cross_compiling() => return Err(cross_message()),
        None => ask_erl()?,
    };
    println!("cargo:rerun-if-changed={}", dir.join(HEADER).display());
    for name in COMPANIONS {
        println!("cargo:rerun-if-changed={}", dir.join(name).display());
    }
    Ok(dir)
}

fn overridden(dir: PathBuf) -> Result<PathBuf, String> {
    if dir.join(HEADER).is_file() {
        return Ok(dir);
    }
    Err(format!(
        "{OVERRIDE} is \"{}\", but there is no {HEADER} in that directory.\n\
         Set it to a directory that has one, such as <Erlang's root>/usr/include, \
         or unset it to use the Erlang that `erl` starts.",
        dir.display()
    ))
}

/// The host's headers carry the host's word size (`erl_int_sizes_config.h`).
fn cross_compiling() -> bool {
    env::var_os("TARGET") != env::var_os("HOST")
}

fn cross_message() -> String {
    let name = |key| env::var(key).unwrap_or_else(|_| "?".into());
    format!(
        "building for {} on {}: the headers of this machine's Erlang may have another word size.\n\
         Set {OVERRIDE} to the directory that holds the target's {HEADER} \
         (usr/include below the root of an Erlang built for it).",
        name("TARGET"),
        name("HOST")
    )
}

/// A distribution's Erlang keeps the headers in `usr/include` below its root;
/// one that was built and installed has them in `erts-<version>/include` too.
fn ask_erl() -> Result<PathBuf, String> {
    let answer = run_erl()?;
    let mut lines = answer.lines();
    let (Some(root), Some(version)) = (lines.next(), lines.next()) else {
        return Err(format!(
            "`erl` did not tell where Erlang is; it printed {answer:?}.\n{HINT}"
        ));
    };
    let root = Path::new(root);
    let places = [
        root.join("usr/include"),
        root.join(format!("erts-{version}/include")),
    ];
    let found = places.iter().find(|dir| dir.join(HEADER).is_file());
    found.cloned().ok_or_else(|| {
        format!(
            "the Erlang at {} has no {HEADER}: neither in {} nor in {}.\n{HINT}",
            root.display(),
            places[0].display(),
            places[1].display()
        )
    })
}

const HINT: &str = "Install Erlang's development files (Debian: erlang-dev; releases have none), \
                    or set ERTS_INCLUDE_DIR to the directory that holds erl_driver.h.";

fn run_erl() -> Result<String, String> {
    let output = Command::new("erl")
        .args(["-boot", "start_clean", "-noinput", "-eval", WHERE])
        .output()
        .map_err(|error| format!("cannot run `erl` to find {HEADER}: {error}.\n{HINT}"))?;
    if !output.status.success() {
        return Err(format!(
            "`erl` failed ({}) when asked where Erlang is: {}\n{HINT}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
