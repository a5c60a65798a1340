// SPDX-License-Identifier: Apache-2.0
//! Panics stop here: what a callback throws is caught, reported on the VM's
//! standard error, and turned into a reason for the port to fail with.
//!
//! Rust's own hook is replaced: it asks for the thread's name, which makes a
//! thread-local with a destructor, and glibc keeps a library with one of those
//! mapped after `dlclose`. The hook belongs to this shared object's copy of
//! std, so no other driver's panics come through it.

use std::any::Any;
use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::io::Write;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

/// `driver_failure_atom` makes an atom, and an atom has at most 255 characters.
const MAX_ATOM: usize = 255;

/// How much of a source file's path is kept when the reason gets too long: its
/// end, which names the file.
const MAX_PLACE: usize = 80;

/// What a panic said, and where.
struct Said {
    message: String,
    place: String,
}

thread_local! {
    /// The last panic of this thread; taken by `guard` on the same thread. A
    /// leaked box and not an owned one, since a destructor would pin the
    /// library (see above).
    static LAST: Cell<Option<&'static mut Said>> = const { Cell::new(None) };
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

/// The text that was thrown. `panic!` throws `&str` and `String`.
fn message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}

fn remember(info: &PanicHookInfo<'_>) {
    replace_last(Some(Box::new(Said {
        message: message(info.payload()).to_owned(),
        place: info
            .location()
            .map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line())),
    })));
}

fn replace_last(said: Option<Box<Said>>) -> Option<Box<Said>> {
    let before = LAST.replace(said.map(Box::leak))?;
    // SAFETY: every reference stored in LAST came from Box::leak, is taken out
    // by the replace above, and so becomes a box again exactly once.
    Some(unsafe { Box::from_raw(before) })
}

/// Runs a callback of the driver `name`. A panic ends here.
pub(crate) fn guard<T>(name: &CStr, callback: &str, body: impl FnOnce() -> T) -> Outcome<T> {
    // ERTS may run `stop_select` inside a callback, even one that is being
    // unwound: what that one has said is not for this guard to take.
    let outer = replace_last(None);
    let result = catch_unwind(AssertUnwindSafe(body));
    // Also when the callback returned: it may have caught a panic of its own.
    let said = replace_last(outer);
    match result {
        Ok(value) => Outcome::Returned(value),
        Err(payload) => {
            // `resume_unwind` runs no hook.
            let said = said.map_or_else(
                || Said {
                    message: message(&*payload).to_owned(),
                    place: "unknown place".to_owned(),
                },
                |said| *said,
            );
            discard(payload);
            Outcome::Panicked(report(name, callback, &said))
        }
    }
}

/// Drops what a panic threw. Its own destructor may panic once more; what that
/// one throws is leaked, as nothing else can be done with it safely.
fn discard(payload: Box<dyn Any + Send>) {
    let outer = replace_last(None);
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
    replace_last(outer);
}

/// Writes the line, and returns the port's reason.
fn report(name: &CStr, callback: &str, said: &Said) -> CString {
    let head = format!(
        "driver {}: panic in {callback}: ",
        printable(&name.to_string_lossy())
    );
    let (message, place) = (printable(&said.message), printable(&said.place));
    // One write, so that the lines of two schedulers do not mix. Nothing can be
    // done about a closed standard error.
    let _ = std::io::stderr().write_all(format!("{head}{message} ({place})\n").as_bytes());
    reason(&head, &message, &place)
}

/// One line of it: line breaks, and the indentation after them, become a space.
fn printable(text: &str) -> String {
    let lines = text.split(['\n', '\r']).map(str::trim);
    let line = lines
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    line.replace(char::is_control, "?")
}

/// The line as an atom's text: ASCII, and not too long. Where it is, it is the
/// message that is cut, and of the place the beginning.
fn reason(head: &str, message: &str, place: &str) -> CString {
    let ascii = |text: &str| -> Vec<u8> {
        text.chars()
            .map(|c| if c.is_ascii() { c as u8 } else { b'?' })
            .collect()
    };
    let (mut text, message, place) = (ascii(head), ascii(message), ascii(place));
    let place = &place[place.len().saturating_sub(MAX_PLACE)..];
    text.truncate(MAX_ATOM / 2);
    let room = MAX_ATOM - text.len() - place.len() - " ()".len();
    text.extend_from_slice(&message[..message.len().min(room)]);
    text.extend_from_slice(b" (");
    text.extend_from_slice(place);
    text.push(b')');
    CString::new(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::panic_any;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// The hook is one for the process; tests that need it run one by one.
    struct Hook(#[allow(dead_code)] MutexGuard<'static, ()>);

    impl Hook {
        fn installed() -> Hook {
            static ONE: Mutex<()> = Mutex::new(());
            let lock = ONE.lock().unwrap_or_else(PoisonError::into_inner);
            install_hook();
            Hook(lock)
        }
    }

    impl Drop for Hook {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                remove_hook();
            }
        }
    }

    fn reason_of(outcome: Outcome<()>) -> String {
        match outcome {
            Outcome::Returned(()) => "returned".to_owned(),
            Outcome::Panicked(reason) => reason.into_string().unwrap(),
        }
    }

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("once more");
        }
    }

    #[test]
    fn a_reason_fits_an_atom_and_keeps_its_place() {
        let place = format!("{}/src/lib.rs:123", "directory/".repeat(50));
        let reason = reason("driver d: panic in call: ", &"ü long ".repeat(100), &place);
        let reason = reason.to_str().unwrap();
        assert_eq!(reason.len(), MAX_ATOM);
        assert!(reason.starts_with("driver d: panic in call: ? long ? long"));
        assert!(reason.ends_with("/src/lib.rs:123)"), "{reason}");
    }

    #[test]
    fn a_reason_is_one_line() {
        assert_eq!(
            printable("assertion failed\n  left: 1\r\n right: \0\u{1b}\n"),
            "assertion failed left: 1 right: ??"
        );
    }

    #[test]
    fn a_panic_is_caught_with_its_message_and_place() {
        let _hook = Hook::installed();
        let reason = reason_of(guard(c"some_drv", "control", || panic!("broken {}", 7)));
        assert!(
            reason.starts_with("driver some_drv: panic in control: broken 7 (")
                && reason.contains("panic.rs:"),
            "{reason}"
        );
    }

    #[test]
    fn a_panic_without_the_hook_still_has_its_message() {
        let _hook = Hook::installed();
        let reason = reason_of(guard(c"some_drv", "call", || {
            std::panic::resume_unwind(Box::new("again"))
        }));
        assert!(reason.contains("call: again (unknown"), "{reason}");
    }

    #[test]
    fn a_payload_that_panics_when_dropped_is_survived_and_not_reported() {
        let _hook = Hook::installed();
        let reason = reason_of(guard(c"some_drv", "stop", || panic_any(Bomb)));
        assert!(reason.contains("stop: (no message) ("), "{reason}");
        assert!(replace_last(None).is_none());
    }

    #[test]
    fn a_callback_inside_an_unwinding_one_leaves_it_its_message() {
        struct Inner;
        impl Drop for Inner {
            fn drop(&mut self) {
                let inner = guard(c"some_drv", "stop_select", || panic!("inner"));
                assert!(reason_of(inner).contains("inner"));
            }
        }
        let _hook = Hook::installed();
        let reason = reason_of(guard(c"some_drv", "control", || {
            let _inner = Inner;
            panic!("outer")
        }));
        assert!(reason.contains("control: outer ("), "{reason}");
    }

    #[test]
    fn a_panic_that_the_callback_caught_leaves_nothing() {
        let _hook = Hook::installed();
        let outcome = guard(c"some_drv", "call", || {
            assert!(catch_unwind(|| panic!("handled")).is_err());
        });
        assert_eq!(reason_of(outcome), "returned");
        assert!(replace_last(None).is_none());
    }
}
