//! What must become of a packet, and whether it did.

use std::collections::BTreeMap;

use ebpf_abi::counters::{Counters, DropReason};

use crate::{
    cube::Cube,
    packet::Packet,
    test_run::{Gso, Hook, Verdict},
};

/// Ports (or attachments) whose counters are looked at.
const COUNTED: u32 = 20;

/// What must become of a packet.
#[derive(Clone, Debug)]
pub struct Outcome {
    verdict: Verdict,
    /// The packet afterwards; `None` when nobody sees it.
    packet: Option<Packet>,
    /// The packet must be what it was.
    unchanged: bool,
    /// It comes in at the port it is sent to, and is counted there.
    received: bool,
    /// Where the packet itself is sent.
    port: Option<u32>,
    /// Where copies of what came in are sent; the length of each, if it is not that of what
    /// came in.
    copies: Vec<(u32, Option<u32>)>,
    dropped: Option<DropReason>,
    /// At which port it enters the next cube.
    next_port: Option<u32>,
}

const NOTHING: Outcome = Outcome {
    verdict: Verdict::Drop,
    packet: None,
    unchanged: false,
    received: true,
    port: None,
    copies: Vec::new(),
    dropped: None,
    next_port: None,
};

/// It leaves through `port`, as `packet`.
pub fn sent(port: u32, packet: &Packet) -> Outcome {
    Outcome {
        verdict: Verdict::Redirect,
        packet: Some(packet.clone()),
        port: Some(port),
        ..NOTHING
    }
}

/// It leaves through `port`, which leads to a program, enters the cube behind at `next`, and
/// passes.
pub fn passed(port: u32, next: u32, packet: &Packet) -> Outcome {
    Outcome {
        verdict: Verdict::Pass,
        next_port: Some(next),
        ..sent(port, packet)
    }
}

/// It is dropped and counted.
pub fn dropped(reason: DropReason) -> Outcome {
    Outcome {
        dropped: Some(reason),
        ..NOTHING
    }
}

/// It is dropped and counted, and in its place `packet` leaves through `port`.
pub fn answered(reason: DropReason, port: u32, packet: &Packet) -> Outcome {
    sent(port, packet).and_dropped(reason)
}

/// It ends here, as it should.
pub fn consumed() -> Outcome {
    NOTHING
}

/// It ends here, and a copy of it leaves through each of `ports`.
pub fn copied(ports: &[u32]) -> Outcome {
    NOTHING.and_copies(ports)
}

/// It is brought to TC as it is, and not counted yet.
pub fn handed_over() -> Outcome {
    Outcome {
        verdict: Verdict::Redirect,
        unchanged: true,
        received: false,
        ..NOTHING
    }
}

impl Outcome {
    /// Besides, the packet that came in counts as dropped.
    pub fn and_dropped(self, reason: DropReason) -> Self {
        Self {
            dropped: Some(reason),
            ..self
        }
    }

    /// Besides, a copy leaves through each of `ports`.
    pub fn and_copies(self, ports: &[u32]) -> Self {
        Self {
            copies: ports.iter().map(|port| (*port, None)).collect(),
            ..self
        }
    }

    /// Besides, something with so many bytes leaves through each of `ports`.
    pub fn and_copies_of(self, ports: &[(u32, u32)]) -> Self {
        let copies = ports.iter().map(|(port, length)| (*port, Some(*length)));
        Self {
            copies: copies.collect(),
            ..self
        }
    }
}

/// A packet to send, and what must become of it.
pub(super) struct Exchange {
    pub(super) port: u32,
    pub(super) packet: Packet,
    pub(super) gso: Gso,
    pub(super) on_tc: Outcome,
    pub(super) on_xdp: Outcome,
}

impl Exchange {
    /// Sends the packet and lists what is not as expected. It is counted at its port, unless
    /// `counter` says otherwise.
    pub(super) fn run(&self, cube: &Cube, counter: Option<u32>) -> Vec<String> {
        let Self {
            port,
            packet,
            gso,
            on_tc,
            on_xdp,
        } = self;
        let outcome = if cube.hook == Hook::Tc { on_tc } else { on_xdp };
        let bytes = packet.bytes();
        let before = cube.counters(COUNTED);
        let run = cube.run(*port, &bytes, *gso);
        let after = cube.counters(COUNTED);
        let mut problems = Vec::new();
        if run.verdict != outcome.verdict {
            problems.push(format!(
                "verdict {:?}, expected {:?}",
                run.verdict, outcome.verdict
            ));
        }
        if let Some(difference) = outcome
            .packet
            .as_ref()
            .and_then(|expected| expected.compare(&run.packet))
        {
            problems.push(difference);
        }
        if outcome.unchanged
            && let Some(difference) = packet.compare(&run.packet)
        {
            problems.push(difference);
        }
        if let Some(next) = outcome.next_port
            && next != run.port
        {
            problems.push(format!(
                "enters the next cube at port {}, expected {next}",
                run.port
            ));
        }
        let segments = u64::from(gso.segments.max(1));
        let expected = counted(
            outcome,
            counter.unwrap_or(*port),
            (bytes.len() - cube.outside(&bytes)) as u64,
            segments,
            (run.packet.len() - run.outside) as u64,
        );
        for index in 0..COUNTED {
            let (was, is) = (&before[index as usize], &after[index as usize]);
            let expected = expected.get(&index).copied().unwrap_or_default();
            compare_counters(&mut problems, index, was, is, &expected);
        }
        problems
    }
}

/// What the packet must add to the counters.
fn counted(
    outcome: &Outcome,
    counter: u32,
    length: u64,
    segments: u64,
    sent_length: u64,
) -> BTreeMap<u32, Counters> {
    let mut counters = BTreeMap::<u32, Counters>::new();
    let input = counters.entry(counter).or_default();
    if outcome.received {
        (input.rx_packets, input.rx_bytes) = (segments, length);
    }
    if let Some(reason) = outcome.dropped {
        input.drops[reason as usize] = segments;
    }
    // What answers a packet of several segments is one packet.
    let sent = outcome.port.map(|port| {
        (
            port,
            if outcome.dropped.is_some() {
                1
            } else {
                segments
            },
            sent_length,
        )
    });
    let copies = outcome.copies.iter().map(|(port, of)| {
        let length = of.map_or(length, u64::from);
        (*port, segments, length)
    });
    for (port, packets, bytes) in sent.into_iter().chain(copies) {
        let output = counters.entry(port).or_default();
        output.tx_packets += packets;
        output.tx_bytes += bytes;
    }
    counters
}

fn compare_counters(
    problems: &mut Vec<String>,
    index: u32,
    was: &Counters,
    is: &Counters,
    expected: &Counters,
) {
    let mut compare = |what: &str, was: u64, is: u64, expected: u64| {
        let added = is.wrapping_sub(was) as i64;
        if added != expected as i64 {
            problems.push(format!(
                "counters {index}: {what} +{added}, expected +{expected}"
            ));
        }
    };
    compare(
        "rx packets",
        was.rx_packets,
        is.rx_packets,
        expected.rx_packets,
    );
    compare("rx bytes", was.rx_bytes, is.rx_bytes, expected.rx_bytes);
    compare(
        "tx packets",
        was.tx_packets,
        is.tx_packets,
        expected.tx_packets,
    );
    compare("tx bytes", was.tx_bytes, is.tx_bytes, expected.tx_bytes);
    for reason in DropReason::ALL {
        let at = *reason as usize;
        compare(
            reason.name(),
            was.drops[at],
            is.drops[at],
            expected.drops[at],
        );
    }
}
