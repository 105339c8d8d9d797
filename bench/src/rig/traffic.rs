//! Programs that send frames and count those that arrive.

use std::{
    cell::Cell,
    collections::BTreeMap,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use bytemuck::{bytes_of, pod_read_unaligned};
use ebpf_abi::bench::{Bound, FRAME, FlowHeaders, Generator as Settings, Kept};
use integration_tests::{
    cube::{Cube, Globals, Kind},
    lab::Space,
    private_net::LOOPBACK,
    test_run::Hook,
    wait,
};
use reconciler::kernel::linux::bpf::{self, LinkTarget};

use super::{frames::Frames, stay_on_one_cpu};

/// Frames that are on their way before the kernel looks after them.
const BATCH: u32 = 64;
/// `BPF_XDP` and `BPF_TCX_INGRESS` (linux/bpf.h), `XDP_FLAGS_*_MODE` (linux/if_link.h).
const ATTACH_XDP: u32 = 37;
const ATTACH_TCX_INGRESS: u32 = 46;
const XDP_GENERIC: u32 = 1 << 1;
const XDP_DRIVER: u32 = 1 << 2;

/// Loads the generator, which writes frames; 0 instead of an interface: for the program in its slot `next`.
pub fn generator(hook: Hook, frames: &Frames, ifindex: u32) -> Cube {
    let count = frames.flows.len();
    let settings = Settings {
        flows: count as u32,
        ifindex,
        ..frames.layout()
    };
    let globals = Globals::from([("SETTINGS".to_owned(), bytes_of(&settings).to_vec())]);
    let capacities = BTreeMap::from([("flows", count as u32)]);
    let cube = Kind::parse("generator").load(hook, &globals, &capacities);
    let template: [u8; FRAME] = template(frames);
    cube.write("template", 0u32, template);
    let memory = cube.memory("flows");
    let words = memory.as_ref();
    for (place, flow) in frames.flows.iter().enumerate() {
        let headers: FlowHeaders = frames.headers(flow);
        let [low, high]: [u64; 2] = bytemuck::cast(headers);
        words[2 * place].store(low, Ordering::Relaxed);
        words[2 * place + 1].store(high, Ordering::Relaxed);
    }
    cube
}

/// The frame of the first flow.
pub fn template(frames: &Frames) -> [u8; FRAME] {
    let bytes = frames.packet(&frames.flows[0]).bytes();
    bytes.try_into().expect("frames have one length")
}

/// Sends frames out of an interface of a namespace.
pub struct Sender {
    cube: Cube,
    template: [u8; FRAME],
    space: Space,
    _known: OwnedFd,
}

impl Sender {
    /// Out of this interface.
    pub fn new(space: &Space, interface: &str, frames: &Frames) -> Self {
        let cube = generator(Hook::Xdp, frames, ifindex(space, interface));
        // For each run of a program that nobody uses, the kernel changes its dispatcher and waits for all CPUs. Nothing
        // comes in where this one is used.
        let unused = LinkTarget {
            ifindex: LOOPBACK,
            attach_type: ATTACH_XDP,
            flags: XDP_GENERIC,
        };
        let known = space
            .enter(|| bpf::create_link(cube.program(), unused))
            .expect("a namespace has its own loopback");
        Self {
            cube,
            template: template(frames),
            space: Space::open(space.name()),
            _known: known,
        }
    }

    /// Sends so many, and says how long it took until all of them were sent and the kernel had looked after most.
    pub fn send(&self, count: u32) -> Duration {
        self.space.enter(|| {
            stay_on_one_cpu();
            let start = Instant::now();
            bpf::run_live(self.cube.program(), &self.template, count, BATCH)
                .expect("the kernel sends live frames (Linux 5.18)");
            start.elapsed()
        })
    }
}

/// The number of an interface in a namespace.
pub fn ifindex(space: &Space, interface: &str) -> u32 {
    space
        .enter(|| nix::net::if_::if_nametoindex(interface))
        .unwrap_or_else(|errno| panic!("{} {interface}: {errno}", space.name()))
}

/// Attaches a program to an interface of a namespace, until what is returned is dropped.
pub fn attach(space: &Space, interface: &str, hook: Hook, program: BorrowedFd<'_>) -> OwnedFd {
    let index = ifindex(space, interface);
    let target = match hook {
        Hook::Xdp => LinkTarget {
            ifindex: index,
            attach_type: ATTACH_XDP,
            flags: XDP_DRIVER,
        },
        Hook::Tc => LinkTarget {
            ifindex: index,
            attach_type: ATTACH_TCX_INGRESS,
            flags: 0,
        },
    };
    space
        .enter(|| bpf::create_link(program, target))
        .unwrap_or_else(|error| panic!("attach to {} {interface}: {error}", space.name()))
}

/// Counts what arrives at an interface, and frees it.
pub struct Sink {
    cube: Cube,
    _link: OwnedFd,
    seen: Cell<u64>,
}

impl Sink {
    /// At this interface.
    pub fn new(space: &Space, interface: &str, hook: Hook) -> Self {
        let cube = Kind::parse("sink").load(hook, &Globals::new(), &BTreeMap::new());
        let link = attach(space, interface, hook, cube.program());
        Self {
            cube,
            _link: link,
            seen: Cell::new(0),
        }
    }

    /// Frames that arrived since this was asked last.
    pub fn arrived(&self) -> u64 {
        let counts = self.cube.read_all_cpus::<u32, u64>("arrived", 0);
        let all: u64 = counts.iter().sum();
        all - self.seen.replace(all)
    }

    /// Asks for the next frame that arrives.
    pub fn keep_next(&self) {
        let mut kept: Kept = bytemuck::Zeroable::zeroed();
        kept.wanted = 1;
        self.cube.write("kept", 0u32, kept);
    }

    /// The frame that was asked for, if it arrives in time: its first [`FRAME`] bytes.
    pub fn kept(&self) -> Option<Vec<u8>> {
        let look = || {
            let kept: Kept = self.cube.read("kept", 0u32)?;
            (kept.wanted == 0).then_some(kept)
        };
        let kept = wait::within(Duration::from_secs(2), look)?;
        let length = (kept.length as usize).min(FRAME);
        Some(kept.frame[..length].to_vec())
    }
}

/// Loads the program that does the least.
pub fn bound(hook: Hook, settings: Bound) -> Cube {
    let globals = Globals::from([("SETTINGS".to_owned(), bytes_of(&settings).to_vec())]);
    Kind::parse("bound").load(hook, &globals, &BTreeMap::new())
}

/// Lets the generator's slot lead to a program.
pub fn lead_to(generator: &Cube, program: BorrowedFd<'_>) {
    let descriptor = program.as_fd().as_raw_fd() as u32;
    generator.write(
        "next",
        0u32,
        pod_read_unaligned::<u32>(bytes_of(&descriptor)),
    );
}
