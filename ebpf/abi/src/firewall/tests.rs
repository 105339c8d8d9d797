//! What packets are to a firewall.

use super::*;

#[test]
fn queries_in_both_directions_are_two_connections() {
    let flow = |turned: bool, icmp_type: u8| {
        let key = FlowKey {
            source: V6([1, 0, 0, 0]),
            destination: V6([2, 0, 0, 0]),
            protocol: ICMP,
            ..FlowKey::default()
        };
        let key = if turned { key.reversed() } else { key };
        let flow = Flow {
            key,
            family: 4,
            icmp_type,
            ..Flow::default()
        };
        connection(&flow).0
    };
    assert_eq!(flow(false, 8), flow(true, 0));
    assert_eq!(flow(true, 8), flow(false, 0));
    assert_ne!(flow(false, 8), flow(true, 8));
}

#[test]
fn notes_tell_connections_and_firewalls_apart() {
    let key = FlowKey {
        source: V6([1, 0, 0, 0]),
        destination: V6([2, 0, 0, 0]),
        protocol: TCP,
        ..FlowKey::default()
    };
    assert_eq!(note(&key, false, 1, 2), note(&key, false, 1, 2));
    assert_eq!(note(&key, false, 1, 2) ^ note(&key, false, 1, 1), 3);
    assert_ne!(note(&key, false, 1, 2) >> 8, note(&key, false, 2, 2) >> 8);
    assert_ne!(note(&key, false, 1, 2) >> 8, note(&key, true, 1, 2) >> 8);
    let translated = FlowKey {
        source: V6([3, 0, 0, 0]),
        ..key
    };
    assert_ne!(
        note(&key, false, 1, 2) >> 8,
        note(&translated, false, 1, 2) >> 8
    );
    assert_ne!(note(&FlowKey::default(), false, 0, 0), 0);
}

#[test]
fn every_state_has_a_timeout_of_its_own() {
    let mut seen = std::collections::BTreeSet::new();
    for state in tcp::SYN_SENT..=tcp::CLOSE {
        assert!(seen.insert(timeout(TCP, state, false)));
    }
    for (protocol, replied) in [(UDP, false), (UDP, true), (ICMP, false), (47, true)] {
        assert!(seen.insert(timeout(protocol, 0, replied)));
    }
    assert!(seen.iter().all(|timeout| *timeout < TIMEOUTS));
    assert_eq!(
        timeout(TCP, tcp::SYN_SENT2, true),
        timeout(TCP, tcp::SYN_SENT, true)
    );
    assert_eq!(timeout(ICMPV6, 0, true), timeout(ICMP, 0, false));
}
