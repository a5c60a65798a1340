// SPDX-License-Identifier: Apache-2.0
//! What the compiler rejects of a driver: each file in `misuse/` misuses the crate.
//!
//! A file compiles as it is. With its feature `misuse` (or `misuse_types`, for
//! errors that keep the compiler from looking for the others) it fails: on each line
//! marked `//~`, with the code that stands there, and on no other. So it is the misuse
//! that fails, for the reason meant, and not a slip beside it.
//!
//! Not with trybuild, which compares the compiler's whole text: it differs between
//! the oldest compiler that this crate supports and the newest, codes and lines do
//! not. Nor with `compile_fail` doctests, which stable compilers let fail for any
//! reason.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The codes of the errors of each line, by the file's name and the line.
type Errors = BTreeMap<(String, u64), Vec<String>>;

const FEATURES: [&str; 2] = ["misuse", "misuse_types"];

#[test]
fn what_is_right_compiles() {
    let package = Package::new("right");
    let output = package.check(&[]);
    assert_eq!(errors(&output), Errors::new());
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn what_is_wrong_does_not() {
    let package = Package::new("wrong");
    for feature in FEATURES {
        let expected = marked(feature);
        assert!(!expected.is_empty());
        let output = package.check(&["--features", feature]);
        let found = errors(&output);
        assert!(
            found.keys().eq(expected.keys()),
            "found: {found:#?}\nexpected: {expected:#?}\n{}",
            stderr(&output)
        );
        for (place, codes) in expected {
            // The newer compiler may have more to say about the same line.
            assert!(
                found[&place].contains(&codes[0]),
                "{place:?}: {:?}",
                found[&place]
            );
        }
    }
}

/// A package whose binaries are the files of `misuse/`.
struct Package(PathBuf);

fn crate_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(crate_dir().join("tests/misuse")).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn name(file: &Path) -> String {
    file.file_stem().unwrap().to_str().unwrap().to_owned()
}

impl Package {
    fn new(name_of_it: &str) -> Package {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join("misuse")
            .join(name_of_it);
        std::fs::create_dir_all(dir.join("src")).unwrap();
        let mut manifest = format!(
            "[package]\nname = 'misuse'\nversion = '0.0.0'\nedition = '2024'\n\
             [workspace]\n[features]\nmisuse = []\nmisuse_types = []\n\
             [dependencies]\nerl_driver = {{ path = {:?} }}\n",
            crate_dir()
        );
        for file in files() {
            manifest += &format!("[[bin]]\nname = {:?}\npath = {file:?}\n", name(&file));
        }
        std::fs::write(dir.join("Cargo.toml"), manifest).unwrap();
        // The versions that the workspace has, which are here already.
        let lock = crate_dir().parent().unwrap().join("Cargo.lock");
        std::fs::copy(lock, dir.join("Cargo.lock")).unwrap();
        Package(dir)
    }

    fn check(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO"))
            .args(["check", "--offline", "--bins", "--keep-going"])
            .args(["--message-format", "json", "--target-dir", "target"])
            .args(arguments)
            .current_dir(&self.0)
            .env_remove("RUSTFLAGS")
            .output()
            .unwrap()
    }
}

/// The errors that the lines of the files promise of a feature.
fn marked(feature: &str) -> Errors {
    let mut marked = Errors::new();
    for file in files() {
        let text = std::fs::read_to_string(&file).unwrap();
        // The last feature named above a line is the one that brings its error.
        let mut current = "";
        for (number, line) in (1..).zip(text.lines()) {
            for known in FEATURES {
                if line.contains(&format!("feature = \"{known}\"")) {
                    current = known;
                }
            }
            let Some((_, code)) = line.split_once("//~ ") else {
                continue;
            };
            if current == feature {
                marked.insert((name(&file), number), vec![code.to_owned()]);
            }
        }
    }
    marked
}

/// The errors that the compiler has reported. One in a macro stands where the
/// macro is used.
fn errors(output: &Output) -> Errors {
    let mut errors = Errors::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: Value = serde_json::from_str(line).unwrap();
        let diagnostic = &message["message"];
        if message["reason"] != "compiler-message" || diagnostic["level"] != "error" {
            continue;
        }
        let Some(mut span) = primary(diagnostic) else {
            continue; // "aborting due to 2 previous errors"
        };
        while !span["expansion"].is_null() {
            span = &span["expansion"]["span"];
        }
        let code = match diagnostic["code"]["code"].as_str() {
            Some(code) => code,
            None => diagnostic["message"].as_str().unwrap(),
        };
        let target = message["target"]["name"].as_str().unwrap();
        let line = span["line_start"].as_u64().unwrap();
        errors
            .entry((target.to_owned(), line))
            .or_default()
            .push(code.to_owned());
    }
    errors
}

fn primary(diagnostic: &Value) -> Option<&Value> {
    let mut spans = diagnostic["spans"].as_array().unwrap().iter();
    spans.find(|span| span["is_primary"] == true)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
