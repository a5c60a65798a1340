// SPDX-License-Identifier: Apache-2.0
//! The driver entry: C functions that ERTS calls, each of which finds the
//! driver's state, runs its callback, and lets nothing but a plain result out.

use crate::panic::{Outcome, guard, install_hook, remove_hook};
use crate::port::{Failure, Port, fail_now};
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
    /// A callback has panicked: the port is closing, only `stop` still runs.
    failed: bool,
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
    // SAFETY: `start` made the instance and only `stop` ends it. The port's
    // lock is held, so that nothing else refers to it while this runs.
    let Instance {
        port: raw,
        id,
        binary,
        failed,
        driver,
    } = unsafe { &mut *instance };
    if *failed {
        return otherwise;
    }
    let raw = *raw;
    // SAFETY: the port of the running callback.
    let port = unsafe { Port::new(raw, *id) };
    let (failure, result) = match guard(D::NAME, callback, || body(driver, &port, binary)) {
        Outcome::Returned(result) => (port.take_failure(), result),
        Outcome::Panicked(reason) => {
            *failed = true;
            (Some(Failure::Atom(reason)), otherwise)
        }
    };
    if let Some(failure) = failure {
        // SAFETY: this runs `stop`, which frees the instance; no reference to
        // it is used from here on.
        unsafe { fail_now(raw, failure) };
    }
    result
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
    let port = unsafe { Port::new(raw, id) };
    let started = guard(D::NAME, "start", || {
        D::start(&port, command).map(|driver| {
            Box::new(Instance {
                port: raw,
                id,
                binary: false,
                failed: false,
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
    let port = unsafe { Port::new(port, id) };
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
    // SAFETY: ERTS passes the monitor that fired.
    let monitor = Monitor(unsafe { *monitor });
    // SAFETY: called by ERTS.
    unsafe {
        run::<D, ()>(data, "process_exit", (), |d, port, _| {
            d.process_exit(port, monitor)
        })
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
    let mut reply = unsafe { Reply::new(*result, lent as usize) };
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
    let mut reply = unsafe { Reply::new(*result, lent as usize) };
    // SAFETY: called by ERTS.
    unsafe {
        run::<D, _>(data, "call", -1, |driver, port, _| {
            if let Err(BadArgument) = driver.call(port, command, input, &mut reply) {
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
        Some(length) => length as sys::ErlDrvSSizeT,
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
    unsafe { std::slice::from_raw_parts(start.cast(), length as usize) }
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

/// Output from Erlang in pieces, as ERTS has it.
pub struct IoVec<'a>(&'a sys::ErlIOVec);

impl IoVec<'_> {
    /// The pieces in order. Some may be empty.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let count = usize::try_from(self.0.vsize).unwrap_or(0);
        // SAFETY: ERTS passes `vsize` pieces, which live during the callback,
        // and so as long as the reference inside does.
        (0..count).map(|i| unsafe {
            let piece = &*self.0.iov.add(i);
            bytes(piece.iov_base.cast(), piece.iov_len as sys::ErlDrvSizeT)
        })
    }

    /// The size of all pieces together.
    pub fn size(&self) -> usize {
        self.0.size as usize
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
