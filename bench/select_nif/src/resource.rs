// SPDX-License-Identifier: Apache-2.0

//! A resource that holds a fd, and enif_select on it. rustler has no safe way to
//! give a resource type the `stop` callback that enif_select calls for.

use std::ffi::{c_int, c_void};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use rustler::sys::{
    self, ERL_NIF_SELECT_READ, ERL_NIF_SELECT_STOP, ERL_NIF_SELECT_WRITE, ErlNifEnv,
    ErlNifResourceFlags, ErlNifResourceType, ErlNifResourceTypeInit, ErlNifSelectFlags,
};
use rustler::{Atom, Encoder, Env, Error, NifResult, Term};

pub const READ: ErlNifSelectFlags = ERL_NIF_SELECT_READ;
pub const WRITE: ErlNifSelectFlags = ERL_NIF_SELECT_WRITE;

/// The resource type: set when the library is loaded, never changed.
static TYPE: AtomicPtr<ErlNifResourceType> = AtomicPtr::new(ptr::null_mut());

/// Makes the resource type known to the VM. For the library's load callback.
pub fn register(env: Env<'_>) -> bool {
    let init = ErlNifResourceTypeInit {
        dtor: ptr::null(),
        stop: close_fd as *const sys::ErlNifResourceStop,
        down: ptr::null(),
        members: 2,
        dyncall: ptr::null(),
    };
    let mut tried = ErlNifResourceFlags::ERL_NIF_RT_CREATE;
    // SAFETY: the environment is that of the load callback, as the call wants
    // it; the name ends with a zero byte and the pointers outlive the call.
    let made = unsafe {
        sys::enif_open_resource_type_x(
            env.as_c_arg(),
            c"fd".as_ptr(),
            &init,
            ErlNifResourceFlags::ERL_NIF_RT_CREATE,
            &mut tried,
        )
    };
    TYPE.store(made.cast_mut(), Ordering::Release);
    !made.is_null()
}

/// ERTS calls this when nothing waits on the fd any more.
unsafe extern "C" fn close_fd(
    _env: *mut ErlNifEnv,
    _resource: *mut c_void,
    fd: RawFd,
    _is_direct_call: c_int,
) {
    // SAFETY: the resource owns the fd, says `make`, and this is the end of it.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
}

pub fn make(env: Env<'_>, fd: RawFd) -> NifResult<Term<'_>> {
    if fd < 0 {
        return Err(Error::BadArg);
    }
    // SAFETY: the type was registered before any function could be called. The
    // memory is the VM's, aligned for any C type and large enough for a fd. The
    // term keeps it alive; this function's own reference is given back.
    unsafe {
        let object = sys::enif_alloc_resource(TYPE.load(Ordering::Acquire), size_of::<RawFd>());
        object.cast::<RawFd>().write(fd);
        let term = sys::enif_make_resource(env.as_c_arg(), object);
        sys::enif_release_resource(object);
        Ok(Term::new(env, term))
    }
}

pub fn select(
    env: Env<'_>,
    resource: Term<'_>,
    events: ErlNifSelectFlags,
    reference: Term<'_>,
) -> NifResult<()> {
    call(env, resource, events, reference)
}

pub fn stop(env: Env<'_>, resource: Term<'_>) -> NifResult<()> {
    call(env, resource, ERL_NIF_SELECT_STOP, undefined(env))
}

fn undefined(env: Env<'_>) -> Term<'_> {
    Atom::from_str(env, "undefined").map_or_else(|_| ().encode(env), |atom| atom.encode(env))
}

fn call(
    env: Env<'_>,
    resource: Term<'_>,
    flags: ErlNifSelectFlags,
    reference: Term<'_>,
) -> NifResult<()> {
    let mut object = ptr::null();
    // SAFETY: both terms belong to the calling process, whose environment this
    // is. The object is only looked at if the term is a resource of our type,
    // which then holds a fd, and it lives as long as its term. No pid: the
    // message goes to the calling process.
    let result = unsafe {
        let ours = sys::enif_get_resource(
            env.as_c_arg(),
            resource.as_c_arg(),
            TYPE.load(Ordering::Acquire),
            &mut object,
        );
        if ours == 0 {
            return Err(Error::BadArg);
        }
        sys::enif_select(
            env.as_c_arg(),
            object.cast::<RawFd>().read(),
            flags,
            object,
            ptr::null(),
            reference.as_c_arg(),
        )
    };
    if result < 0 {
        Err(Error::RaiseAtom("select_failed"))
    } else {
        Ok(())
    }
}
