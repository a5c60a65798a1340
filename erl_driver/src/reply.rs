// SPDX-License-Identifier: Apache-2.0
//! The result of a control or call: short ones in the buffer that ERTS lends,
//! longer ones in memory that ERTS frees.

use erl_driver_sys as sys;
use std::ffi::c_char;
use std::marker::PhantomData;

/// The first byte of a term in the external format.
const VERSION_MAGIC: u8 = 131;

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

    /// Appends bytes, as many as there is memory for. If nothing is pushed, the
    /// result of a control is empty.
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
            let mut spilled = Vec::with_capacity(self.len + bytes.len());
            spilled.extend_from_slice(self.bytes());
            self.spilled = spilled;
        }
        self.spilled.extend_from_slice(bytes);
    }

    fn bytes(&self) -> &[u8] {
        if !self.spilled.is_empty() {
            return &self.spilled;
        }
        // SAFETY: `push` has written the first `len` bytes of the lent buffer.
        unsafe { std::slice::from_raw_parts(self.lent, self.len) }
    }

    /// How many bytes were pushed.
    pub fn len(&self) -> usize {
        self.bytes().len()
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

    /// Makes the result of this control a binary, not a list of bytes; of this
    /// one only. (The result of a call is a term in any case.)
    pub fn make_binary(&mut self) {
        self.binary = true;
    }

    pub(crate) fn into_list(mut self) -> Self {
        self.binary = false;
        self
    }

    /// Whether it begins as a term in the external format does.
    pub(crate) fn is_external(&self) -> bool {
        self.bytes().first() == Some(&VERSION_MAGIC)
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
            let binary = unsafe { sys::driver_alloc_binary(bytes.len()) };
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
            let buffer = unsafe { sys::driver_alloc(bytes.len()) };
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

#[cfg(test)]
mod tests {
    use super::*;

    fn lend(buffer: &mut [u8]) -> Reply<'_> {
        // SAFETY: the reply borrows the buffer.
        unsafe { Reply::new(buffer.as_mut_ptr().cast(), buffer.len()) }
    }

    #[test]
    fn bytes_that_fit_are_in_the_lent_buffer() {
        let mut buffer = [0; 4];
        let mut reply = lend(&mut buffer);
        reply.push(b"ab");
        reply.push(b"");
        reply.push(b"cd");
        assert_eq!((reply.bytes(), reply.len()), (&b"abcd"[..], 4));
        assert!(reply.spilled.is_empty());
        assert_eq!(&buffer, b"abcd");
    }

    #[test]
    fn bytes_that_do_not_fit_keep_their_order() {
        let mut buffer = [0; 4];
        let mut reply = lend(&mut buffer);
        for byte in b"abcdefgh" {
            reply.push(&[*byte]);
        }
        assert_eq!((reply.bytes(), reply.len()), (&b"abcdefgh"[..], 8));
    }

    #[test]
    fn a_cleared_reply_starts_anew() {
        let mut buffer = [0; 4];
        let mut reply = lend(&mut buffer);
        reply.push(b"abcdefgh");
        reply.clear();
        assert!(reply.is_empty());
        reply.push(b"xyz");
        assert_eq!(reply.bytes(), b"xyz");
    }

    #[test]
    fn a_term_begins_with_131() {
        let mut buffer = [0; 1];
        for (bytes, is) in [
            (&b""[..], false),
            (b"\x83", true),
            (b"\x83a\x01", true),
            (b"a", false),
        ] {
            let mut reply = lend(&mut buffer);
            reply.push(bytes);
            assert_eq!(reply.is_external(), is, "{bytes:?}");
        }
    }
}
