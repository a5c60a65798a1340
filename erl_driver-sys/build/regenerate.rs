// SPDX-License-Identifier: Apache-2.0

//! Writes the files that are committed: the bindings of both word sizes, and
//! `layout.h`, the numbers that both take for granted and `shim.c` checks.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use crate::generate::{self, GENERATED, Input};

/// Bytes of a word, and a clang target with such words.
const WORDS: [(u32, &str); 2] = [
    (8, "x86_64-unknown-linux-gnu"),
    (4, "i686-unknown-linux-gnu"),
];

/// Writes `bindings.8.rs`, `bindings.4.rs` and `layout.h` into `to`.
pub fn all(shim: &Path, headers: &Path, scratch: &Path, to: &Path) -> Result<(), String> {
    let mut layout = format!("/* {GENERATED} */\n");
    for (bytes, target) in WORDS {
        let input = Input {
            shim,
            headers: &headers_for(bytes, headers, scratch)?,
            scratch,
            target: Some(target),
        };
        let bindings = generate::bindings(&input)?;
        write(&to.join(format!("bindings.{bytes}.rs")), &bindings)?;
        layout.push_str(&section(bytes, &generate::layout(&input)?));
    }
    write(&to.join("layout.h"), &layout)
}

/// The headers are the same for every machine but for one, which `configure`
/// writes: a copy of them, with that one made for words of `bytes`.
fn headers_for(bytes: u32, headers: &Path, scratch: &Path) -> Result<PathBuf, String> {
    let dir = scratch.join(format!("headers.{bytes}"));
    fs::create_dir_all(&dir)
        .map_err(|error| format!("cannot create {}: {error}", dir.display()))?;
    for name in ["erl_driver.h", "erl_drv_nif.h"] {
        let from = headers.join(name);
        fs::copy(&from, dir.join(name))
            .map_err(|error| format!("cannot copy {}: {error}", from.display()))?;
    }
    let sizes = format!(
        "#define SIZEOF_CHAR 1\n#define SIZEOF_SHORT 2\n#define SIZEOF_INT 4\n\
         #define SIZEOF_LONG {bytes}\n#define SIZEOF_LONG_LONG 8\n#define SIZEOF_VOID_P {bytes}\n"
    );
    write(&dir.join("erl_int_sizes_config.h"), &sizes)?;
    Ok(dir)
}

/// The part of `layout.h` for one word size.
fn section(bytes: u32, numbers: &[(String, i64)]) -> String {
    let mut text = format!("\n#if LAYOUT_WORD == {bytes}\n");
    for (name, value) in numbers {
        let _ = writeln!(text, "#define LAYOUT_{name} {}", c_literal(*value));
    }
    text + "#endif\n"
}

/// C has no negative literals: a minus sign is an operator.
fn c_literal(value: i64) -> String {
    if value == i64::MIN {
        format!("({} - 1)", value + 1)
    } else if value < 0 {
        format!("({value})")
    } else {
        value.to_string()
    }
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))
}
