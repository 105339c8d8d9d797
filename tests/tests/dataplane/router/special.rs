//! Routes that lead nowhere: blackhole, unreachable, prohibit.

use ebpf_abi::{
    counters::DropReason,
    router::{ROUTE_BLACKHOLE, ROUTE_PROHIBIT, ROUTE_UNREACHABLE},
};
use integration_tests::{
    packet::{Packet, ether, icmp, icmpv6, ipv4, ipv6, payload, tcp, udp},
    table::{answered, dropped, row},
};

use super::*;

fn to_nowhere(cube: &Cube, kind: u32) {
    let route = || Route {
        kind,
        ..Route::default()
    };
    route_v4(cube, NOWHERE, 32, route());
    route_v6(cube, NOWHERE_V6, 128, route());
}

fn error(kind: u8, code: u8, about: &Packet) -> Packet {
    ether(mac(0), A)
        / ipv4(v4(0, 1), v4(0, 2)).tos(0xc0).id(0)
        / icmp(kind, code, 0)
        / about.quotation(548)
}

fn error_v6(kind: u8, code: u8, about: &Packet) -> Packet {
    ether(mac(0), A) / ipv6(v6(0, 1), v6(0, 2)) / icmpv6(kind, code, 0) / about.quotation(1232)
}

/// Codes are those of Linux (`ip_error`, `ip6_pkt_drop`): host unreachable and no route,
/// communication prohibited.
#[test]
fn what_senders_are_told() {
    let ip = || ipv4(v4(0, 2), NOWHERE);
    let ip_v6 = || ipv6(v6(0, 2), NOWHERE_V6);
    let v4 = || ether(A, mac(0)) / ip() / udp(1, 2) / payload(26);
    let v6 = || ether(A, mac(0)) / ip_v6() / tcp(1, 2) / payload(26);
    let dying = ether(A, mac(0)) / ip().ttl(1) / udp(1, 2);
    let dying_v6 = ether(A, mac(0)) / ip_v6().hop_limit(1) / udp(1, 2);
    let with_options = ether(A, mac(0)) / ip().options(&[1; 4]) / udp(1, 2);
    let about_error = ether(A, mac(0)) / ip() / icmp(3, 0, 0) / payload(28);
    let about_error_v6 = ether(A, mac(0)) / ip_v6() / icmpv6(1, 0, 0) / payload(48);
    let silent = dropped(DropReason::Blackhole);
    router()
        .rows([
            row("blackhole")
                .with(|cube| to_nowhere(cube, ROUTE_BLACKHOLE))
                .send(0, &v4(), silent.clone())
                .send(0, &v6(), silent.clone())
                .send(0, &dying, silent.clone())
                .send(0, &dying_v6, silent.clone())
                .send(0, &with_options, silent),
            row("unreachable")
                .with(|cube| to_nowhere(cube, ROUTE_UNREACHABLE))
                .send(
                    0,
                    &v4(),
                    answered(DropReason::NoRoute, 0, &error(3, 1, &v4())),
                )
                .send(
                    0,
                    &v6(),
                    answered(DropReason::NoRoute, 0, &error_v6(1, 0, &v6())),
                )
                .send(
                    0,
                    &with_options,
                    answered(DropReason::NoRoute, 0, &error(3, 1, &with_options)),
                )
                .send(0, &about_error, dropped(DropReason::NoRoute))
                .send(0, &about_error_v6, dropped(DropReason::NoRoute)),
            row("prohibit")
                .with(|cube| to_nowhere(cube, ROUTE_PROHIBIT))
                .send(
                    0,
                    &v4(),
                    answered(DropReason::Prohibited, 0, &error(3, 13, &v4())),
                )
                .send(
                    0,
                    &v6(),
                    answered(DropReason::Prohibited, 0, &error_v6(1, 1, &v6())),
                )
                // As where there is no route: what is not forwarded does not expire.
                .send(
                    0,
                    &dying,
                    answered(DropReason::Prohibited, 0, &error(3, 13, &dying)),
                )
                .send(
                    0,
                    &dying_v6,
                    answered(DropReason::Prohibited, 0, &error_v6(1, 1, &dying_v6)),
                )
                .send(0, &about_error, dropped(DropReason::Prohibited)),
        ])
        .run();
}
