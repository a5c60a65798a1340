// SPDX-License-Identifier: Apache-2.0
//! The driver entry: C functions that ERTS calls, each of which finds the
//! driver's state, runs its callback, and lets nothing but a plain result out.

use crate::panic::{Outcome, guard, install_hook, remove_hook};
use crate::port::{Callback, Failure, Port, fail_now, run_soon};
use crate::{BadArgument, Driver, Event, Monitor, Reply, StartError};
use erl_driver_sys as sys;
use std::cell::UnsafeCell;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

/// What ERTS keeps for each port, as its `ErlDrvData`.
struct Instance<D> {
    port: sys::ErlDrvPort,
    id: sys::ErlDrvTermData,
    /// Whether ERTS was told that the results of control are binaries.
    binary: bool,
    /// A callback has panicked: only `stop` still runs.
    failed: bool,
    /// What the port is to fail with, as soon as it can.
    pending: Option<Failure>,
    driver: D,
}

/// The driver entry of [`driver!`](crate::driver): what `driver_init` returns.
pub struct Entry {
    entry: UnsafeCell<sys::ErlDrvEntry>,
}

// SAFETY: Rust never touches the entry after `new`; ERTS writes its own fields
// in it, under its own locks.
unsafe impl Sync for Entry {}

impl Entry {
    /// The entry of a driver.
    #[allow(clippy::new_without_default)]
    pub const fn new<D: Driver>() -> Entry {
        Entry {
            entry: UnsafeCell::new(sys::ErlDrvEntry {
                init: Some(init::<D>),
                start: Some(start::<D>),
                stop: Some(stop::<D>),
                output: None,
                ready_input: Some(ready_input::<D>),
                ready_output: Some(ready_output::<D>),
                driver_name: D::NAME.as_ptr().cast_mut(),
                finish: Some(finish::<D>),
                handle: std::ptr::null_mut(),
                control: Some(control::<D>),
                timeout: Some(timeout::<D>),
                outputv: Some(outputv::<D>),
                ready_async: None,
                flush: None,
                call: Some(call::<D>),
                unused_event_callback: None,
                extended_marker: sys::ERL_DRV_EXTENDED_MARKER,
                major_version: sys::ERL_DRV_EXTENDED_MAJOR_VERSION as c_int,
                minor_version: sys::ERL_DRV_EXTENDED_MINOR_VERSION as c_int,
                driver_flags: sys::ERL_DRV_FLAG_USE_PORT_LOCKING as c_int,
                handle2: std::ptr::null_mut(),
                process_exit: Some(process_exit::<D>),
                stop_select: Some(stop_select::<D>),
                emergency_close: None,
            }),
        }
    }

    /// The entry, for ERTS.
    pub fn get(&'static self) -> *mut sys::ErlDrvEntry {
        self.entry.get()
    }
}

/// Runs a callback on the state behind `data`, with the port's and the flag
/// that says how ERTS takes the results of control. Where it does not return, the
/// port fails and ERTS gets `otherwise`.
///
/// # Safety
/// ERTS is calling back with the `data` that [`start`] returned.
unsafe fn run<D: Driver, T>(
    data: sys::ErlDrvData,
    callback: &str,
    otherwise: T,
    body: impl FnOnce(&mut D, &Port, &mut bool) -> T,
) -> T {
    let instance: *mut Instance<D> = data.cast();
    // SAFETY: what the caller promises.
    let (failure, result) = unsafe { attempt(instance, callback, Callback::Any, otherwise, body) };
    if let Some(failure) = failure {
        // SAFETY: `start` made the instance, and it has not ended yet.
        let raw = unsafe { (*instance).port };
        // SAFETY: this runs `stop`, which frees the instance; it is not used
        // from here on.
        unsafe { fail_now(raw, failure) };
    }
    result
}

/// Runs a callback as [`run`] does, and returns what the port is to fail with.
///
/// # Safety
/// As [`run`].
unsafe fn attempt<D: Driver, T>(
    instance: *mut Instance<D>,
    callback: &str,
    lent_to: Callback,
    otherwise: T,
    body: impl FnOnce(&mut D, &Port, &mut bool) -> T,
) -> (Option<Failure>, T) {
    // SAFETY: `start` made the instance and only `stop` ends it. The port's
    // lock is held, so that nothing else refers to it while this runs.
    let Instance {
        port,
        id,
        binary,
        failed,
        pending,
        driver,
    } = unsafe { &mut *instance };
    if *failed || pending.is_some() {
        return (pending.take(), otherwise);
    }
    // SAFETY: the port of the running callback.
    let port = unsafe { Port::new(*port, *id, lent_to) };
    match guard(D::NAME, callback, || body(driver, &port, binary)) {
        Outcome::Returned(result) => (port.take_failure(), result),
        Outcome::Panicked(reason) => {
            *failed = true;
            (Some(Failure::Atom(reason)), otherwise)
        }
    }
}

extern "C" fn init<D: Driver>() -> c_int {
    install_hook();
    match guard(D::NAME, "load", D::load) {
        Outcome::Returned(Ok(())) => 0,
        _ => {
            // ERTS does not call `finish` for a driver it did not take.
            remove_hook();
            -1
        }
    }
}

extern "C" fn finish<D: Driver>() {
    guard(D::NAME, "unload", D::unload);
    remove_hook();
}

unsafe extern "C" fn start<D: Driver>(
    raw: sys::ErlDrvPort,
    command: *mut c_char,
) -> sys::ErlDrvData {
    // SAFETY: ERTS passes a C string that lives during the call.
    let command = unsafe { CStr::from_ptr(command) }.to_bytes();
    // SAFETY: the port of the running callback.
    let id = unsafe { sys::driver_mk_port(raw) };
    // SAFETY: as above.
    let port = unsafe { Port::new(raw, id, Callback::Any) };
    let started = guard(D::NAME, "start", || {
        D::start(&port, command).map(|driver| {
            Box::new(Instance {
                port: raw,
                id,
                binary: false,
                failed: false,
                pending: None,
                driver,
            })
        })
    });
    match started {
        Outcome::Returned(Ok(instance)) => Box::into_raw(instance).cast(),
        Outcome::Returned(Err(StartError::BadArgument)) => sys::ERL_DRV_ERROR_BADARG,
        Outcome::Returned(Err(StartError::Errno(errno))) => {
            // SAFETY: errno is this thread's own.
            unsafe { *errno_location() = errno };
            sys::ERL_DRV_ERROR_ERRNO
        }
        Outcome::Returned(Err(StartError::General)) | Outcome::Panicked(_) => {
            sys::ERL_DRV_ERROR_GENERAL
        }
    }
}

unsafe extern "C" fn stop<D: Driver>(data: sys::ErlDrvData) {
    // SAFETY: ERTS calls stop once, with what `start` made, and nothing after.
    let instance: Box<Instance<D>> = unsafe { Box::from_raw(data.cast()) };
    let Instance {
        port, id, driver, ..
    } = *instance;
    // SAFETY: the port of the running callback.
    let port = unsafe { Port::new(port, id, Callback::Stop) };
    guard(D::NAME, "stop", || driver.stop(&port));
}

unsafe extern "C" fn ready_input<D: Driver>(data: sys::ErlDrvData, event: sys::ErlDrvEvent) {
    let event = Event::from_raw(event);
    // SAFETY: called by ERTS.
    unsafe {
        run::<D, ()>(data, "ready_input", (), |d, port, _| {
            d.ready_input(port, event)
        })
    }
}

unsafe extern "C" fn ready_output<D: Driver>(data: sys::ErlDrvData, event: sys::ErlDrvEvent) {
    let event = Event::from_raw(event);
    // SAFETY: called by ERTS.
    unsafe {
        run::<D, ()>(data, "ready_output", (), |d, port, _| {
            d.ready_output(port, event)
        })
    }
}

unsafe extern "C" fn stop_select<D: Driver>(event: sys::ErlDrvEvent, _reserved: *mut c_void) {
    let event = Event::from_raw(event);
    guard(D::NAME, "stop_select", || D::stop_select(event));
}

unsafe extern "C" fn timeout<D: Driver>(data: sys::ErlDrvData) {
    // SAFETY: called by ERTS.
    unsafe { run::<D, ()>(data, "timeout", (), |d, port, _| d.timeout(port)) }
}

unsafe extern "C" fn process_exit<D: Driver>(
    data: sys::ErlDrvData,
    monitor: *mut sys::ErlDrvMonitor,
) {
    let instance: *mut Instance<D> = data.cast();
    // SAFETY: ERTS passes the monitor that fired.
    let monitor = Monitor(unsafe { *monitor });
    // SAFETY: called by ERTS.
    let (failure, ()) = unsafe {
        attempt(
            instance,
            "process_exit",
            Callback::ProcessExit(monitor),
            (),
            |d: &mut D, port, _| d.process_exit(port, monitor),
        )
    };
    if failure.is_some() {
        // Not now: `driver_failure` frees the port's monitors, and after this
        // callback ERTS unlinks the one that fired from among them, freed or
        // not (`erts_fire_port_monitor` in io.c). The next callback, at the
        // latest a timeout, fails the port.
        // SAFETY: the port is still open, so the instance lives.
        unsafe {
            (*instance).pending = failure;
            run_soon((*instance).port);
        }
    }
}

unsafe extern "C" fn outputv<D: Driver>(data: sys::ErlDrvData, vector: *mut sys::ErlIOVec) {
    // SAFETY: ERTS passes a vector that lives during the call.
    let vector = IoVec(unsafe { &*vector });
    // SAFETY: called by ERTS.
    unsafe { run::<D, ()>(data, "outputv", (), |d, port, _| d.outputv(port, &vector)) }
}

unsafe extern "C" fn control<D: Driver>(
    data: sys::ErlDrvData,
    command: c_uint,
    buffer: *mut c_char,
    length: sys::ErlDrvSizeT,
    result: *mut *mut c_char,
    lent: sys::ErlDrvSizeT,
) -> sys::ErlDrvSSizeT {
    // SAFETY: ERTS passes its input, and at `result` a buffer of `lent` bytes.
    let (input, result) = unsafe { (bytes(buffer, length), &mut *result) };
    // SAFETY: as above.
    let mut reply = unsafe { Reply::new(*result, lent) };
    // SAFETY: called by ERTS.
    unsafe {
        run::<D, _>(data, "control", -1, |driver, port, binary| {
            if let Err(BadArgument) = driver.control(port, command, input, &mut reply) {
                return -1;
            }
            if reply.is_binary() != *binary {
                *binary = reply.is_binary();
                port.set_control_flags(*binary);
            }
            give(reply, result)
        })
    }
}

unsafe extern "C" fn call<D: Driver>(
    data: sys::ErlDrvData,
    command: c_uint,
    buffer: *mut c_char,
    length: sys::ErlDrvSizeT,
    result: *mut *mut c_char,
    lent: sys::ErlDrvSizeT,
    _flags: *mut c_uint,
) -> sys::ErlDrvSSizeT {
    // SAFETY: as in `control`.
    let (input, result) = unsafe { (bytes(buffer, length), &mut *result) };
    // SAFETY: as in `control`.
    let mut reply = unsafe { Reply::new(*result, lent) };
    // SAFETY: called by ERTS.
    unsafe {
        run::<D, _>(data, "call", -1, |driver, port, _| {
            if let Err(BadArgument) = driver.call(port, command, input, &mut reply) {
                return -1;
            }
            // ERTS answers badarg to a term that does not begin so, and does not
            // free it (`erts_port_call` in io.c).
            if !reply.is_external() {
                return -1;
            }
            give(reply.into_list(), result)
        })
    }
}

/// # Safety
/// As [`Reply::finish`].
unsafe fn give(reply: Reply, result: &mut *mut c_char) -> sys::ErlDrvSSizeT {
    // SAFETY: as the caller promises.
    match unsafe { reply.finish(result) } {
        Some(length) => length as isize,
        None => -1,
    }
}

/// # Safety
/// `start` points to `length` bytes that live for `'a`, or `length` is 0.
unsafe fn bytes<'a>(start: *const c_char, length: sys::ErlDrvSizeT) -> &'a [u8] {
    if start.is_null() || length == 0 {
        return &[];
    }
    // SAFETY: as the caller promises.
    unsafe { std::slice::from_raw_parts(start.cast(), length) }
}

fn errno_location() -> *mut c_int {
    #[cfg(any(target_os = "linux", target_os = "emscripten"))]
    // SAFETY: takes nothing, returns this thread's errno.
    unsafe {
        libc::__errno_location()
    }
    #[cfg(any(target_os = "macos", target_os = "ios", target_os = "freebsd"))]
    // SAFETY: takes nothing, returns this thread's errno.
    unsafe {
        libc::__error()
    }
    #[cfg(any(target_os = "android", target_os = "netbsd", target_os = "openbsd"))]
    // SAFETY: takes nothing, returns this thread's errno.
    unsafe {
        libc::__errno()
    }
}

/// Output from Erlang in pieces, as ERTS has it: large binaries in place, and what
/// lay between them gathered. Lent for the length of
/// [`outputv`](crate::Driver::outputv).
pub struct IoVec<'a>(&'a sys::ErlIOVec);

impl IoVec<'_> {
    /// The pieces in order. Some may be empty.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let count = usize::try_from(self.0.vsize).unwrap_or(0);
        // SAFETY: ERTS passes `vsize` pieces, which live during the callback,
        // and so as long as the reference inside does.
        (0..count).map(|i| unsafe {
            let piece = &*self.0.iov.add(i);
            bytes(piece.iov_base.cast(), piece.iov_len)
        })
    }

    /// The size of all pieces together.
    pub fn size(&self) -> usize {
        self.0.size
    }

    /// All pieces in one.
    pub fn concat(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.size());
        for piece in self.pieces() {
            all.extend_from_slice(piece);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_may_be_empty_and_without_an_address() {
        let mut text = *b"some bytes";
        let piece = |base: *mut u8, length| sys::SysIOVec {
            iov_base: base.cast(),
            iov_len: length,
        };
        let mut pieces = [
            piece(std::ptr::null_mut(), 0),
            piece(text.as_mut_ptr(), 4),
            piece(std::ptr::dangling_mut(), 0),
            piece(text[4..].as_mut_ptr(), 6),
        ];
        let vector = sys::ErlIOVec {
            vsize: 4,
            size: 10,
            iov: pieces.as_mut_ptr(),
            binv: std::ptr::null_mut(),
        };
        let vector = IoVec(&vector);
        assert_eq!(
            vector.pieces().collect::<Vec<_>>(),
            [&b""[..], b"some", b"", b" bytes"]
        );
        assert_eq!((vector.size(), vector.concat()), (10, text.to_vec()));
    }
}
