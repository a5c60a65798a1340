// SPDX-License-Identifier: Apache-2.0
//! Panics stop here: what a callback throws is caught, reported on the VM's
//! standard error, and turned into a reason for the port to fail with.
//!
//! Rust's own hook is replaced: it asks for the thread's name, which makes a
//! thread-local with a destructor, and glibc keeps a library with one of those
//! mapped after `dlclose`. The hook belongs to this shared object's copy of
//! std, so no other driver's panics come through it.

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::io::Write;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

/// `driver_failure_atom` makes an atom, and an atom has at most 255 characters.
const MAX_ATOM: usize = 255;

thread_local! {
    /// Where the last panic of this thread was and what it said; taken by
    /// `guard` on the same thread. A leaked box and not a `String`, since a
    /// destructor would pin the library (see above).
    static LAST: Cell<Option<&'static mut String>> = const { Cell::new(None) };
}

/// What became of a callback: it returned, or it panicked.
pub(crate) enum Outcome<T> {
    Returned(T),
    /// Carries the reason to fail the port with.
    Panicked(CString),
}

/// Installs the hook. Called when the driver is loaded.
pub(crate) fn install_hook() {
    std::panic::set_hook(Box::new(remember));
}

/// Drops the hook. Called when the driver is unloaded.
pub(crate) fn remove_hook() {
    drop(std::panic::take_hook());
}

fn remember(info: &PanicHookInfo<'_>) {
    let message = info
        .payload()
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| info.payload().downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)");
    let text = match info.location() {
        Some(place) => format!("{message} ({}:{})", place.file(), place.line()),
        None => message.to_owned(),
    };
    put(Some(Box::leak(Box::new(text))));
}

fn put(text: Option<&'static mut String>) -> Option<String> {
    let before = LAST.replace(text)?;
    // SAFETY: every reference stored in LAST came from Box::leak, is taken out
    // by the replace above, and so becomes a box again exactly once.
    Some(*unsafe { Box::from_raw(before) })
}

/// Runs a callback of the driver `name`. A panic ends here.
pub(crate) fn guard<T>(name: &CStr, callback: &str, body: impl FnOnce() -> T) -> Outcome<T> {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => Outcome::Returned(value),
        Err(payload) => {
            // A payload's own destructor may panic once more; what that one
            // throws is leaked, as nothing else can be done with it safely.
            if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                std::mem::forget(again);
            }
            let text = put(None).unwrap_or_default();
            Outcome::Panicked(report(name, callback, &text))
        }
    }
}

fn report(name: &CStr, callback: &str, text: &str) -> CString {
    let name = name.to_string_lossy();
    let line = format!("driver {name}: panic in {callback}: {text}");
    // Nothing can be done about a closed standard error.
    let _ = writeln!(std::io::stderr(), "{line}");
    reason(&line)
}

/// The line as an atom's text: printable ASCII, no NUL, not too long.
fn reason(line: &str) -> CString {
    let text: Vec<u8> = line
        .chars()
        .map(|c| {
            if c == ' ' || c.is_ascii_graphic() {
                c as u8
            } else {
                b'?'
            }
        })
        .take(MAX_ATOM)
        .collect();
    CString::new(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_fits_an_atom() {
        let reason = reason(&"ü\0\n long ".repeat(100));
        assert_eq!(reason.as_bytes().len(), MAX_ATOM);
        assert!(reason.to_str().unwrap().starts_with("??? long ??? long"));
    }

    #[test]
    fn a_panic_is_caught_with_its_message_and_place() {
        install_hook();
        let outcome = guard(c"some_drv", "control", || panic!("broken {}", 7));
        remove_hook();
        let Outcome::Panicked(reason) = outcome else {
            panic!("not caught");
        };
        let reason = reason.to_str().unwrap();
        assert!(
            reason.starts_with("driver some_drv: panic in control: broken 7 (")
                && reason.contains("panic.rs:"),
            "{reason}"
        );
    }

    #[test]
    fn a_payload_that_panics_when_dropped_is_survived() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("once more");
            }
        }
        let outcome = guard(c"some_drv", "stop", || std::panic::panic_any(Bomb));
        assert!(matches!(outcome, Outcome::<()>::Panicked(_)));
    }
}
