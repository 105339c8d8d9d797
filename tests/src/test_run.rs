//! The kernel's test run: a program, a packet, and what became of it.

use std::os::fd::BorrowedFd;

use bytemuck::pod_read_unaligned;
use reconciler::{kernel::linux::bpf, resource};

use crate::tags;

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// tcx.
    Tc,
    /// XDP.
    Xdp,
}

impl Hook {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Tc, Self::Xdp];

    /// Name of the program in an object file, for a part of a cube.
    pub fn entry_point(self, part: u32) -> String {
        match self {
            Self::Tc => resource::Hook::Tc.entry_point(part),
            Self::Xdp => resource::Hook::Xdp.entry_point(part),
        }
    }

    /// Name of the chain's map.
    pub fn chain(self) -> &'static str {
        match self {
            Self::Tc => "chain_tc",
            Self::Xdp => "chain_xdp",
        }
    }
}

/// What a program says at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Out of an interface.
    Redirect,
    /// To whatever comes after us.
    Pass,
    /// Freed.
    Drop,
    /// None of these.
    Unknown(u32),
}

/// A buffer that stands for several segments.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gso {
    /// Their number; 0 for none.
    pub segments: u32,
    /// Bytes of payload in each; 0 for none.
    pub size: u32,
}

/// What is known of a packet beside its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Marks {
    /// What a cube has noted in it.
    pub noted: u32,
    /// On TC: its mark, which the host may set.
    pub mark: u32,
}

/// What became of a packet.
#[derive(Debug)]
pub struct Run {
    /// The program's verdict.
    pub verdict: Verdict,
    /// The packet.
    pub packet: Vec<u8>,
    /// The port at which it would enter the next standard cube.
    pub port: u32,
    /// On TC: not 0 if its headers were moved.
    pub moved: u32,
    /// What a cube noted in it.
    pub noted: u32,
    /// On TC: bytes of the packet that were outside of it.
    pub outside: usize,
}

/// Offsets in `struct __sk_buff` (linux/bpf.h), the context of a program on TC.
mod sk_buff {
    pub(super) const MARK: usize = 8;
    pub(super) const CB: usize = 48;
    /// The word of the control block in which cubes note something.
    pub(super) const NOTED: usize = CB + 4 * 4;
    pub(super) const GSO_SEGS: usize = 164;
    pub(super) const GSO_SIZE: usize = 176;
    pub(super) const LENGTH: usize = 192;
}

/// Runs a program on TC; the first three words of the control block are given.
pub(crate) fn run_tc(
    program: BorrowedFd<'_>,
    control_block: [u32; 3],
    marks: Marks,
    packet: &[u8],
    gso: Gso,
) -> Run {
    let mut context = [0u8; sk_buff::LENGTH];
    let mut put = |at: usize, value: u32| context[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    for (at, word) in control_block.into_iter().enumerate() {
        put(sk_buff::CB + 4 * at, word);
    }
    put(sk_buff::NOTED, marks.noted);
    put(sk_buff::MARK, marks.mark);
    put(sk_buff::GSO_SEGS, gso.segments);
    put(sk_buff::GSO_SIZE, gso.size);
    let (verdict, packet) =
        bpf::test_run(program, packet, &mut context).expect("the kernel runs the program");
    let verdict = match verdict as i32 {
        7 => Verdict::Redirect,
        2 => Verdict::Drop,
        -1 => Verdict::Pass,
        _ => Verdict::Unknown(verdict),
    };
    let [port, moved] = pod_read_unaligned(&context[sk_buff::CB..sk_buff::CB + 8]);
    let noted = pod_read_unaligned(&context[sk_buff::NOTED..sk_buff::NOTED + 4]);
    let length = packet.len();
    let packet = tags::with_noted(packet, &context);
    Run {
        verdict,
        outside: packet.len() - length,
        packet,
        port,
        moved,
        noted,
    }
}

/// Runs a program on XDP.
pub(crate) fn run_xdp(program: BorrowedFd<'_>, packet: &[u8]) -> (Verdict, Vec<u8>) {
    let (verdict, packet) =
        bpf::test_run(program, packet, &mut []).expect("the kernel runs the program");
    let verdict = match verdict {
        1 => Verdict::Drop,
        2 => Verdict::Pass,
        4 => Verdict::Redirect,
        _ => Verdict::Unknown(verdict),
    };
    (verdict, packet)
}
