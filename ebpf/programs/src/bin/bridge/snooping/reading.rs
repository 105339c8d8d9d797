//! Reading messages, and checking their sums.

use core::{mem::MaybeUninit, ptr};

use aya_ebpf::{
    cty::c_void,
    helpers::{bpf_csum_diff, bpf_loop},
};
use ebpf_abi::checksum;
use ebpf_programs::{Packet, Result, packet::bounded, tc::Tc};

use super::Message;

/// Bytes that are summed at a time; a power of two.
const CHUNK: u32 = 64;
/// Chunks of the largest IP packet.
const MAX_CHUNKS: u32 = 65536 / CHUNK;

/// True if the checksum of `length` bytes is right, with `covered` added to it.
#[inline(always)]
pub fn is_sound(message: &mut Message, offset: u32, length: u32, covered: u64) -> bool {
    message.at = offset;
    message.end = offset + length;
    message.sum = 0;
    message.failed = false;
    let chunks = length.div_ceil(CHUNK);
    let chunks = if chunks > MAX_CHUNKS {
        MAX_CHUNKS
    } else {
        chunks
    };
    // SAFETY: the callback has the signature `bpf_loop` wants, and `message` outlives the call.
    unsafe {
        bpf_loop(
            chunks,
            add_chunk as *mut c_void,
            (&raw mut *message).cast(),
            0,
        )
    };
    !message.failed && checksum::fold(u64::from(message.sum) + covered) == 0xffff
}

/// Callback of `bpf_loop`.
extern "C" fn add_chunk(_: u64, message: *mut Message) -> i64 {
    // SAFETY: the kernel hands the pointer on that `is_sound` gave it.
    let message = unsafe { &mut *message };
    let left = message.end - message.at;
    let length = bounded::<CHUNK>(if left < CHUNK { left } else { CHUNK });
    // The kernel sums words, so the bytes after the last one must be zero.
    let mut chunk = [0u64; CHUNK as usize / 8];
    let bytes = chunk.as_mut_ptr();
    // SAFETY: `length` is at most that of the chunk.
    let added = unsafe {
        if message
            .tc
            .copy_out(message.at, bytes.cast(), length)
            .is_err()
        {
            -1
        } else {
            bpf_csum_diff(ptr::null_mut(), 0, bytes.cast(), CHUNK, message.sum)
        }
    };
    if added < 0 {
        message.failed = true;
        return 1;
    }
    message.sum = added as u32;
    message.at += length;
    0
}

/// Reads a header, wherever in the packet it is.
#[inline(always)]
pub fn read<T: Copy>(packet: &Tc, offset: u32) -> Result<T> {
    let mut header = MaybeUninit::<T>::uninit();
    // SAFETY: the copy is as long as a `T`, which is made of integers.
    unsafe {
        packet.copy_out(offset, header.as_mut_ptr().cast(), size_of::<T>() as u32)?;
        Ok(header.assume_init())
    }
}
