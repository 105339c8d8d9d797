//! Packets that come by one firewall more than once: in two stacks, or as an answer of its own.

use ebpf_abi::{
    entry::ANSWER_MARK,
    firewall::Connection,
    flow::FlowKey,
    tcp::{self as states, ACK, SYN},
};
use integration_tests::{
    packet::*,
    test_run::{Marks, Run},
};

use super::*;

impl Firewall {
    /// Lets a packet of which something is known meet the program of a direction.
    fn meet_marked(&self, direction: Direction, packet: &Packet, marks: Marks) -> Run {
        let cube = &self.programs[direction as usize];
        let control_block = [0, 0, cube.bank];
        cube.run_marked(control_block, marks, &packet.bytes(), Gso::default())
    }

    /// The state of the only connection, and what was counted of both sides.
    fn moved(&self) -> (u8, [u64; 2]) {
        let connections = self.cube().entries::<FlowKey, Connection>("connections");
        assert_eq!(connections.len(), 1);
        (connections[0].1.state, connections[0].1.packets)
    }
}

fn noting(noted: u32) -> Marks {
    Marks {
        noted,
        ..Marks::default()
    }
}

const TWO_STACKS: &str = "e: { through: [fw] }, f: { through: [fw] }";

/// What was noted says what the packet is, so it moves its connection once; the other direction, and another packet, do
/// not take it for theirs.
#[test]
fn a_packet_moves_its_connection_once() {
    on_both(|hook| {
        let firewall = Firewall::at(hook, "{}", TWO_STACKS);
        let client = |flags| from_b(tcp(4000, 80).flags(flags));
        let server = |flags| from_a(tcp(80, 4000).flags(flags));
        let mut last = 0;
        for (direction, packet, state, packets) in [
            (Direction::Egress, client(SYN), states::SYN_SENT, [1, 0]),
            (
                Direction::Ingress,
                server(SYN | ACK),
                states::SYN_RECV,
                [1, 1],
            ),
            (Direction::Egress, client(ACK), states::ESTABLISHED, [2, 1]),
            (Direction::Ingress, server(ACK), states::ESTABLISHED, [2, 2]),
        ] {
            // What the packet before it left means nothing for this one, which goes the other way.
            let first = firewall.meet_marked(direction, &packet, noting(last));
            assert_eq!(first.verdict, Verdict::Pass, "{hook:?}");
            assert_ne!(first.noted, 0, "{hook:?}");
            assert_eq!(firewall.moved(), (state, packets), "{hook:?}");
            let second = firewall.meet_marked(direction, &packet, noting(first.noted));
            assert_eq!(second.verdict, Verdict::Pass, "{hook:?}");
            assert_eq!(second.noted, first.noted);
            assert_eq!(firewall.moved(), (state, packets), "{hook:?}: once");
            last = first.noted;
        }
        let another = firewall.meet_marked(Direction::Ingress, &server(ACK), noting(1));
        assert_eq!(another.verdict, Verdict::Pass);
        assert_eq!(firewall.moved(), (states::ESTABLISHED, [2, 3]), "{hook:?}");
    });
}

/// Where a packet comes by once only, nothing is noted, and nothing that was is believed.
#[test]
fn one_stack_notes_nothing() {
    on_both(|hook| {
        let settings = "{ ingress: { default: drop } }";
        let several = Firewall::at(hook, settings, TWO_STACKS);
        let packet = from_b(tcp(4000, 80).flags(SYN));
        several.meet_marked(Direction::Egress, &packet, Marks::default());
        let answer = from_a(tcp(80, 4000).flags(SYN | ACK));
        let known = several.meet_marked(Direction::Ingress, &answer, Marks::default());
        assert_eq!(known.verdict, Verdict::Pass, "{hook:?}");

        let alone = Firewall::new(hook, settings);
        let run = alone.meet_marked(Direction::Ingress, &answer, noting(known.noted));
        assert_eq!(run.verdict, Verdict::Drop, "{hook:?}");
        assert_eq!(run.noted, known.noted, "it is not its own");
    });
}

/// Only answers that come by once more are let pass by their mark: where they go another way, or nothing is rejected, it means
/// nothing, whoever has set it.
#[test]
fn a_mark_is_believed_where_answers_come_by() {
    on_both(|hook| {
        let interfaces = "e: { through: [fw] }";
        let marked = Marks {
            mark: ANSWER_MARK,
            ..Marks::default()
        };
        let other = Marks {
            mark: ANSWER_MARK - 1,
            ..Marks::default()
        };
        let by_host = (HOP_PASS, 0);
        let elsewhere = (HOP_INTERFACE, LOOPBACK);
        let rejects = "{ ingress: { default: drop }, egress: { default: reject } }";
        let drops = "{ ingress: { default: drop } }";
        for (settings, back, marks, passes) in [
            (rejects, by_host, marked, hook == Hook::Tc),
            (rejects, by_host, other, false),
            (rejects, by_host, Marks::default(), false),
            (rejects, elsewhere, marked, false),
            (drops, by_host, marked, false),
            (drops, elsewhere, marked, false),
        ] {
            let firewall = Firewall::answering(hook, settings, interfaces, back);
            let packet = from_a(udp(1, 2));
            let run = firewall.meet_marked(Direction::Ingress, &packet, marks);
            let verdict = if passes { Verdict::Pass } else { Verdict::Drop };
            assert_eq!(
                run.verdict, verdict,
                "{hook:?}: {settings} {back:?} {marks:?}"
            );
        }
    });
}
