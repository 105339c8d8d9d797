//! Frames that are sent in a cube's name: its program runs once, on a frame of ours.

use std::os::fd::AsFd as _;

use ebpf_abi::entry::{BANK_MARK, RETURNS_MARK};
use topology_schema::Name;

use super::{LinuxKernel, bpf, io};
use crate::{kernel::Result, resource::Hook, wiring};

/// `struct __sk_buff` (linux/bpf.h): its length, and where the control block is.
const CONTEXT: usize = 192;
const CONTROL_BLOCK: usize = 48;

impl LinuxKernel {
    /// Sends a frame out of a cube's port, through all that filters what leaves there. Its source
    /// must be the port's link-layer address: that is how the cube knows that it is its own.
    ///
    /// The kernel runs the program as it does for tests; the copy that the program sends is a
    /// real one.
    pub(super) fn send_frame(&self, cube: &Name, port: u32, frame: &[u8]) -> Result<()> {
        let pin = wiring::cube_program(cube, Hook::Tc);
        let program = self.open(&pin)?;
        let active = self.open(&wiring::active())?;
        let bank = bpf::lookup(active.as_fd(), &0u32.to_ne_bytes(), 4)
            .map_err(|error| io("read", wiring::active(), &error))?;
        let bank = bank.map_or(0, |bank| {
            u32::from(bank.first().is_some_and(|bank| *bank != 0))
        });
        let mut context = [0; CONTEXT];
        let words = [port, 0, BANK_MARK | RETURNS_MARK | bank];
        for (word, place) in words
            .iter()
            .zip(context[CONTROL_BLOCK..].chunks_exact_mut(4))
        {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bpf::test_run(program.as_fd(), frame, &mut context)
            .map(drop)
            .map_err(|error| io("run", &pin, &error))
    }
}
