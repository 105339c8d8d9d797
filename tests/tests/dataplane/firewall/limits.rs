//! Limits, counters, reports, fragments, and a table that is full.

use ebpf_abi::firewall::{
    Connection, Report, RuleCounter, State, VERDICT_DROP, VERDICT_REJECT, rule_counter,
};
use ebpf_abi::flow::FlowKey;
use integration_tests::packet::*;

use super::*;

fn counter(firewall: &Firewall, index: u32) -> (u64, u64) {
    let values = firewall
        .cube()
        .read_all_cpus::<u32, RuleCounter>("rule_counters", index);
    let values = values.iter();
    values.fold((0, 0), |(packets, bytes), value| {
        (packets + value.packets, bytes + value.bytes)
    })
}

#[test]
fn a_limit_is_kept() {
    on_both(|hook| {
        let settings = "{ ingress: { default: drop, rules: [{ protocol: udp, action: accept, limit: { rate: 1/s, burst: 3 } }] } }";
        let firewall = Firewall::new(hook, settings);
        let fates: Vec<Fate> = (0..10)
            .map(|port| firewall.ingress(&from_a(udp(port, 53))))
            .collect();
        let passed = fates.iter().filter(|fate| **fate == PASSED).count();
        let limited = fates
            .iter()
            .filter(|fate| **fate == Fate::Dropped("rateLimited"))
            .count();
        // A second may pass while the test runs.
        assert!((3..=5).contains(&passed), "{hook:?}: {fates:?}");
        assert_eq!(passed + limited, 10);
        // What is established is not limited.
        assert_eq!(firewall.egress(&from_b(udp(53, 0))), PASSED);
        for _ in 0..10 {
            assert_eq!(firewall.ingress(&from_a(udp(0, 53))), PASSED);
        }
    });
}

#[test]
fn segments_count_against_a_limit() {
    if !require::root() {
        return;
    }
    private_net::run(|_| {
        let settings = "{ ingress: { default: drop, rules: [{ protocol: udp, action: accept, limit: { rate: 1/s, burst: 2 } }] } }";
        let firewall = Firewall::new(Hook::Tc, settings);
        let gso = Gso {
            segments: 5,
            size: 6,
        };
        let packet = from_a(udp(1, 2)) / payload(30);
        let meet = |port| {
            let packet = from_a(udp(port, 2)) / payload(30);
            firewall.meet_segments(Direction::Ingress, &packet.bytes(), gso)
        };
        assert_eq!(meet(1), PASSED);
        assert_eq!(meet(2), Fate::Dropped("rateLimited"));
        let bytes = packet.bytes().len() as u64;
        assert_eq!(counter(&firewall, rule_counter(0)), (10, 2 * bytes));
    });
}

#[test]
fn rules_and_defaults_are_counted() {
    on_both(|hook| {
        let settings =
            "{ ingress: { default: drop, rules: [{ protocol: udp, action: drop }] }, egress: {} }";
        let firewall = Firewall::new(hook, settings);
        let packet = from_a(udp(1, 2)) / payload(11);
        for _ in 0..3 {
            assert_eq!(firewall.ingress(&packet), POLICY);
        }
        assert_eq!(firewall.ingress(&from_a(echo(1, 1))), POLICY);
        assert_eq!(firewall.egress(&from_b(echo(1, 1))), PASSED);
        let bytes = packet.bytes().len() as u64;
        assert_eq!(counter(&firewall, rule_counter(0)), (3, 3 * bytes));
        assert_eq!(counter(&firewall, 0), (1, 42));
        assert_eq!(counter(&firewall, 1), (1, 42));
        // What another rule has counted in this place is no concern of this one.
        let foreign = RuleCounter {
            packets: 9,
            bytes: 9,
            identity: 77,
            padding: 0,
        };
        firewall
            .cube()
            .write_all_cpus("rule_counters", rule_counter(0), foreign);
        assert_eq!(firewall.ingress(&packet), POLICY);
        let values = firewall
            .cube()
            .read_all_cpus::<u32, RuleCounter>("rule_counters", rule_counter(0));
        let own: Vec<_> = values.iter().filter(|value| value.identity != 77).collect();
        assert_eq!(own.len(), 1);
        assert_eq!(own[0].packets, 1);
    });
}

/// Then nothing is looked at: also what is cut off passes, and the default counts it. The other direction has rules.
#[test]
fn a_direction_of_which_nothing_is_asked_passes_all() {
    on_both(|hook| {
        let settings = "{ conntrack: false, egress: { rules: [{ protocol: udp, action: drop }] } }";
        let firewall = Firewall::new(hook, settings);
        let cut_off = &from_a(udp(1, 2)).bytes()[..40];
        assert_eq!(firewall.meet(Direction::Ingress, cut_off), PASSED);
        assert_eq!(firewall.ingress(&from_a6(udp(1, 2))), PASSED);
        let length = from_a6(udp(1, 2)).bytes().len() as u64 + 40;
        assert_eq!(counter(&firewall, 0), (2, length), "{hook:?}");
        assert_eq!(firewall.egress(&from_b(udp(1, 2))), POLICY);
        let malformed = Fate::Dropped("malformed");
        let cut_off = &from_b(udp(1, 2)).bytes()[..40];
        assert_eq!(firewall.meet(Direction::Egress, cut_off), malformed);
        for settings in [
            "{ conntrack: false, ingress: { log: true } }",
            "{ conntrack: false, ingress: { default: drop } }",
            "{ conntrack: false, ingress: { default: reject } }",
            "{ conntrack: false, ingress: { rules: [{ protocol: tcp, action: accept }] } }",
            "{}",
        ] {
            let firewall = Firewall::new(hook, settings);
            let cut_off = &from_a(udp(1, 2)).bytes()[..40];
            let fate = firewall.meet(Direction::Ingress, cut_off);
            assert_eq!(fate, malformed, "{hook:?}: {settings}");
        }
    });
}

fn reports(firewall: &Firewall) -> Vec<Report> {
    let records = firewall.cube().records("log");
    let records = records.iter();
    records
        .map(|record| bytemuck::pod_read_unaligned(record))
        .collect()
}

#[test]
fn what_is_to_be_reported_is() {
    on_both(|hook| {
        let settings = "{ ingress: { default: reject, log: true, rules: [
            { name: web, protocol: tcp, destinationPort: 80, action: drop, log: true },
            { protocol: udp, action: accept } ] } }";
        let firewall = Firewall::new(hook, settings);
        let segment = from_a(tcp(1000, 80).flags(2));
        assert_eq!(firewall.ingress(&segment), POLICY);
        assert_eq!(firewall.ingress(&from_a(udp(1, 2))), PASSED);
        assert!(matches!(
            firewall.ingress(&from_a6(echo_v6(5, 1))),
            Fate::Answered("rejected", _)
        ));
        let all = reports(&firewall);
        assert_eq!(all.len(), 2, "{all:?}");
        let [first, second] = [all[0], all[1]];
        assert_eq!(first.identity, identity("ingress/web"));
        assert_eq!(u32::from(first.verdict), VERDICT_DROP);
        assert_eq!(
            (
                first.key.source_port.get(),
                first.key.destination_port.get()
            ),
            (1000, 80)
        );
        assert_eq!((first.tcp_flags, first.bytes), (2, 54));
        assert_eq!(first.state, ebpf_abi::classifier::STATE_NEW);
        assert_eq!((second.identity, second.rule), (0, 0));
        assert_eq!(u32::from(second.verdict), VERDICT_REJECT);
        assert_eq!(second.icmp_type, 128);
        assert_eq!(second.key.source.bytes(), A6.octets());
    });
}

#[test]
fn a_flood_of_reports_is_cut() {
    on_both(|hook| {
        let firewall = Firewall::new(hook, "{ ingress: { default: drop, log: true } }");
        for port in 0..1000 {
            assert_eq!(firewall.ingress(&from_a(udp(port, 2))), POLICY);
        }
        let count = reports(&firewall).len() as u64;
        let state: State = firewall.cube().read("state", 0u32).expect("one entry");
        assert!(count >= 100, "{hook:?}: {count}");
        assert_eq!(count + state.unreported, 1000, "{hook:?}");
    });
}

#[test]
fn later_fragments_follow_the_first() {
    on_both(|hook| {
        let settings = "{ ingress: { default: drop, rules: [{ protocol: udp, destinationPort: 53, action: accept }] } }";
        let firewall = Firewall::new(hook, settings);
        let first = |port, id| {
            ether(OUT, IN) / ipv4(A, B).id(id).fragment(0, true) / udp(1000, port) / payload(64)
        };
        let later =
            |id| ether(OUT, IN) / ipv4(A, B).id(id).protocol(17).fragment(72, false) / payload(64);
        assert_eq!(
            firewall.ingress(&later(1)),
            Fate::Dropped("fragmentUnknown")
        );
        assert_eq!(firewall.ingress(&first(53, 1)), PASSED);
        assert_eq!(firewall.ingress(&later(1)), PASSED);
        assert_eq!(firewall.ingress(&first(54, 2)), POLICY);
        assert_eq!(firewall.ingress(&later(2)), POLICY);
    });
}

#[test]
fn a_full_table_makes_room() {
    on_both(|hook| {
        let firewall = Firewall::new(hook, "{ sessions: 1024 }");
        let fates: Vec<Fate> = (0..1100)
            .map(|port| firewall.ingress(&from_a(udp(port, 53))))
            .collect();
        assert_eq!(fates.iter().filter(|fate| **fate == PASSED).count(), 1024);
        assert_eq!(fates[1050], Fate::Dropped("sessionsExhausted"));
        // What is over goes, and what is not answered for long; what is answered stays.
        for (at, (key, mut connection)) in firewall
            .cube()
            .entries::<FlowKey, Connection>("connections")
            .into_iter()
            .enumerate()
        {
            match at {
                0 => connection.expires = 1,
                1 => connection.created = 1,
                2 => {
                    connection.created = 1;
                    connection.flags |= ebpf_abi::firewall::CONNECTION_REPLIED;
                }
                _ => continue,
            }
            firewall.cube().write("connections", key, connection);
        }
        let mut state: State = firewall.cube().read("state", 0u32).expect("one entry");
        assert!(state.full > 0);
        state.swept = 0;
        firewall.cube().write("state", 0u32, state);
        assert_eq!(firewall.ingress(&from_a(udp(5000, 53))), PASSED);
        assert_eq!(firewall.ingress(&from_a(udp(5001, 53))), PASSED);
        assert_eq!(
            firewall.ingress(&from_a(udp(5002, 53))),
            Fate::Dropped("sessionsExhausted")
        );
        let all = firewall
            .cube()
            .entries::<FlowKey, Connection>("connections");
        assert_eq!(
            all.iter()
                .filter(|(_, connection)| connection.created == 1)
                .count(),
            1
        );
    });
}
