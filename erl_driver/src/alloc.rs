// SPDX-License-Identifier: Apache-2.0
//! Memory from `driver_alloc`, which `erlang:memory/0` counts.

use erl_driver_sys as sys;
use std::alloc::{GlobalAlloc, Layout};

/// The alignment that `driver_alloc` promises: that of any basic C type up to
/// a double word. `erl_driver(3)` says no more than "properly aligned"; ERTS's
/// allocators align to 8 bytes.
const DRIVER_ALIGN: usize = 8;

/// A global allocator on top of `driver_alloc`, `driver_realloc` and
/// `driver_free`. [`driver!`](crate::driver) installs it.
pub struct DriverAlloc;

// SAFETY: blocks come from driver_alloc and go back to driver_free. A larger
// alignment is served from inside a larger block, whose start is kept in the
// word before the aligned address; both directions take the branch by the same
// layout, which GlobalAlloc's contract makes the caller repeat.
unsafe impl GlobalAlloc for DriverAlloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= DRIVER_ALIGN {
            // SAFETY: driver_alloc takes any size and may run on any thread.
            return unsafe { sys::driver_alloc(layout.size()) }.cast();
        }
        let Some(size) = layout
            .size()
            .checked_add(layout.align() + size_of::<usize>())
        else {
            return std::ptr::null_mut();
        };
        // SAFETY: as above.
        let block: *mut u8 = unsafe { sys::driver_alloc(size) }.cast();
        if block.is_null() {
            return block;
        }
        let first = block.addr() + size_of::<usize>();
        let aligned = first.next_multiple_of(layout.align());
        let result = block.with_addr(aligned);
        // SAFETY: the word before `aligned` is inside the block (aligned >=
        // block + one word) and aligned for usize, as `aligned` is for more.
        unsafe { result.cast::<*mut u8>().sub(1).write(block) };
        result
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let block = if layout.align() <= DRIVER_ALIGN {
            pointer
        } else {
            // SAFETY: alloc wrote the block's start there.
            unsafe { pointer.cast::<*mut u8>().sub(1).read() }
        };
        // SAFETY: the block came from driver_alloc and is freed once.
        unsafe { sys::driver_free(block.cast()) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.align() <= DRIVER_ALIGN {
            // SAFETY: the block came from driver_alloc.
            return unsafe { sys::driver_realloc(pointer.cast(), size) }.cast();
        }
        let Ok(grown) = Layout::from_size_align(size, layout.align()) else {
            return std::ptr::null_mut();
        };
        // SAFETY: `grown` has a size that is not zero, as the caller promised.
        let result = unsafe { self.alloc(grown) };
        if !result.is_null() {
            // SAFETY: both blocks hold at least the smaller of both sizes, and
            // the old one is freed once, with the layout it was made with.
            unsafe {
                pointer.copy_to_nonoverlapping(result, layout.size().min(size));
                self.dealloc(pointer, layout);
            }
        }
        result
    }
}
