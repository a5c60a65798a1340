// SPDX-License-Identifier: Apache-2.0
//! The result of a control or call: short ones in the buffer that ERTS lends,
//! longer ones in memory that ERTS frees.

use erl_driver_sys as sys;
use std::ffi::c_char;
use std::marker::PhantomData;

/// The result of [`Driver::control`](crate::Driver::control) or
/// [`Driver::call`](crate::Driver::call), filled by [`push`](Reply::push).
pub struct Reply<'a> {
    lent: *mut u8,
    capacity: usize,
    /// Bytes used of the lent buffer, as long as `spilled` is empty.
    len: usize,
    /// All bytes, once they no longer fit the lent buffer.
    spilled: Vec<u8>,
    binary: bool,
    lifetime: PhantomData<&'a mut [u8]>,
}

impl Reply<'_> {
    /// # Safety
    /// `lent` holds `capacity` bytes and outlives the reply.
    pub(crate) unsafe fn new(lent: *mut c_char, capacity: usize) -> Self {
        Reply {
            lent: lent.cast(),
            capacity,
            len: 0,
            spilled: Vec::new(),
            binary: false,
            lifetime: PhantomData,
        }
    }

    /// Appends bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.spilled.is_empty() {
            if bytes.len() <= self.capacity - self.len {
                // SAFETY: the lent buffer has room for `bytes` after `len`.
                unsafe {
                    self.lent
                        .add(self.len)
                        .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
                }
                self.len += bytes.len();
                return;
            }
            self.spilled.reserve(self.len + bytes.len());
            // SAFETY: the first `len` bytes of the lent buffer were written by
            // the branch above.
            let before = unsafe { std::slice::from_raw_parts(self.lent, self.len) };
            self.spilled.extend_from_slice(before);
        }
        self.spilled.extend_from_slice(bytes);
    }

    /// How many bytes were pushed.
    pub fn len(&self) -> usize {
        self.len.max(self.spilled.len())
    }

    /// Whether nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets what was pushed.
    pub fn clear(&mut self) {
        self.len = 0;
        self.spilled.clear();
    }

    /// Makes the result of this control a binary, not a list of bytes. (The
    /// result of a call is a term in any case.)
    pub fn make_binary(&mut self) {
        self.binary = true;
    }

    pub(crate) fn into_list(mut self) -> Self {
        self.binary = false;
        self
    }

    pub(crate) fn is_binary(&self) -> bool {
        self.binary
    }

    /// Hands the bytes to ERTS: where they are goes to `target`, how many is
    /// returned. `None` if there is no memory for them.
    ///
    /// # Safety
    /// ERTS takes them as the result of the callback that is running, a binary
    /// only with `PORT_CONTROL_FLAG_BINARY` set.
    pub(crate) unsafe fn finish(self, target: &mut *mut c_char) -> Option<usize> {
        if self.spilled.is_empty() {
            *target = self.lent.cast();
            return Some(self.len);
        }
        let bytes = &self.spilled;
        if self.binary {
            // SAFETY: ERTS frees the binary, or shares it with the caller.
            let binary = unsafe { sys::driver_alloc_binary(bytes.len() as sys::ErlDrvSizeT) };
            if binary.is_null() {
                return None;
            }
            // SAFETY: `orig_bytes` stands for as many bytes as were asked for,
            // though C declares one; hence the raw pointer to the field.
            unsafe {
                (&raw mut (*binary).orig_bytes)
                    .cast::<u8>()
                    .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            }
            *target = binary.cast();
        } else {
            // SAFETY: ERTS frees it with driver_free.
            let buffer = unsafe { sys::driver_alloc(bytes.len() as sys::ErlDrvSizeT) };
            if buffer.is_null() {
                return None;
            }
            // SAFETY: the block has that many bytes.
            unsafe {
                buffer
                    .cast::<u8>()
                    .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            }
            *target = buffer.cast();
        }
        Some(bytes.len())
    }
}
