// SPDX-License-Identifier: Apache-2.0

//! enif_select for Erlang: what a NIF that waits for fds does in place of inert,
//! for the benchmark to compare with. No product: see `select_nif.erl`.
//!
//! `resource.rs` has the calls of the C API that rustler does not wrap, and all
//! the `unsafe` of the crate.

mod resource;

use rustler::{Atom, Env, NifResult, Term};

mod atoms {
    rustler::atoms! { ok, read, write }
}

rustler::init!("select_nif", load = load);

fn load(env: Env<'_>, _info: Term<'_>) -> bool {
    resource::register(env)
}

/// A resource for a fd, which belongs to the resource from here on.
#[rustler::nif]
fn own(env: Env<'_>, fd: i32) -> NifResult<Term<'_>> {
    resource::make(env, fd)
}

/// Asks for the message `{select, Resource, Ref, ready_input | ready_output}`.
#[rustler::nif]
fn select(env: Env<'_>, resource: Term<'_>, mode: Atom, reference: Term<'_>) -> NifResult<Atom> {
    let events = if mode == atoms::read() {
        resource::READ
    } else if mode == atoms::write() {
        resource::WRITE
    } else {
        return Err(rustler::Error::BadArg);
    };
    resource::select(env, resource, events, reference)?;
    Ok(atoms::ok())
}

/// Stops waiting; ERTS closes the fd as soon as nothing uses it any more.
#[rustler::nif]
fn close(env: Env<'_>, resource: Term<'_>) -> NifResult<Atom> {
    resource::stop(env, resource)?;
    Ok(atoms::ok())
}
