//! The limit on errors the router sends (RFC 1812, 4.3.2.8; RFC 4443, 2.4 f).

use std::time::Instant;

use ebpf_abi::{
    counters::DropReason,
    router::{ICMP_BURST, ICMP_RATE, IcmpBudget},
};
use integration_tests::{
    cube::{Globals, Kind},
    packet::{Packet, ether, ipv4, ipv6, udp},
    private_net, require,
    test_run::{Gso, Hook, Verdict},
};

use super::*;

/// Far more than there can be answers to in the time it takes to send them.
const ATTEMPTS: u64 = 100_000;

/// Sends packets that cause an error until one causes none; then the counters must agree.
fn exhaust(hook: Hook, packet: &Packet) {
    let cube = Kind::parse("router").load(hook, &Globals::new(), &Default::default());
    four_ports(&cube);
    let packet = packet.bytes();
    let start = Instant::now();
    let answered = (0..ATTEMPTS)
        .find(|_| cube.run(0, &packet, Gso::default()).verdict == Verdict::Drop)
        .expect("errors are limited");
    // The clock of the data plane is a few milliseconds coarse.
    let most = ICMP_BURST + (start.elapsed().as_millis() as u64 + 20) * ICMP_RATE / 1000;
    assert!(
        (ICMP_BURST..=most).contains(&answered),
        "{hook:?}: {answered} of at most {most}"
    );
    let counters = cube.counters(1)[0];
    assert_eq!(
        (counters.rx_packets, counters.tx_packets),
        (answered + 1, answered),
        "{hook:?}"
    );
    assert_eq!(
        counters.drops[DropReason::TtlExceeded as usize],
        answered,
        "{hook:?}"
    );
    assert_eq!(
        counters.drops[DropReason::RateLimited as usize],
        1,
        "{hook:?}"
    );

    // After a second there is a whole burst again.
    let second_ago = integration_tests::clock::ago(integration_tests::clock::SECOND * 2);
    cube.write_all_cpus(
        "icmp_budget",
        0u32,
        IcmpBudget {
            tokens: 0,
            refilled: second_ago,
        },
    );
    for _ in 0..ICMP_BURST {
        assert_eq!(
            cube.run(0, &packet, Gso::default()).verdict,
            Verdict::Redirect,
            "{hook:?}"
        );
    }
}

#[test]
fn errors_are_limited() {
    if !require::root() {
        return;
    }
    private_net::run(|_| {
        for hook in Hook::ALL {
            exhaust(
                hook,
                &(ether(A, mac(0)) / ipv4(v4(0, 2), v4(1, 2)).ttl(1) / udp(1, 2)),
            );
            exhaust(
                hook,
                &(ether(A, mac(0)) / ipv6(v6(0, 2), v6(1, 2)).hop_limit(1) / udp(1, 2)),
            );
        }
    });
}
