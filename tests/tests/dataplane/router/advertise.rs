//! Router advertisements that somebody asks for (RFC 4861, 6.2.6).

use ebpf_abi::{
    counters::DropReason::{Malformed, RateLimited},
    router::{ADVERTISEMENT_FRAME, Advertisement, MIN_DELAY_BETWEEN_RAS},
};
use integration_tests::{
    clock::{SECOND, ago},
    packet::{Packet, ether, icmpv6, ipv6, payload, raw},
    table::{Row, consumed, dropped, handed_over, row, sent},
    test_run::Hook,
};

use super::*;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ALL_ROUTERS_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 2];
const HOST: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xaa);

/// The advertisement, as it is in the table or to one host.
fn advertisement(station: [u8; 6], destination: Ipv6Addr) -> Packet {
    ether(mac(0), station)
        / ipv6(link_local(0), destination).hop_limit(255)
        / icmpv6(134, 0, 0x4000_0708)
        / payload(60)
}

/// A question; `option` is what follows the message's own fields.
fn ask(source: Ipv6Addr, option: &[u8]) -> Packet {
    ether(A, ALL_ROUTERS_MAC)
        / ipv6(source, ALL_ROUTERS).hop_limit(255)
        / icmpv6(133, 0, 0)
        / raw(option)
}

fn advertises(cube: &Cube) {
    let bytes = advertisement(ALL_NODES_MAC, ALL_NODES).bytes();
    let mut entry = Advertisement {
        interval: 600,
        length: bytes.len() as u32,
        frame: [0; ADVERTISEMENT_FRAME],
    };
    entry.frame[..bytes.len()].copy_from_slice(&bytes);
    cube.write("advertisements", 0u32, entry);
}

/// A row in which port 0 advertises.
fn on_tc(name: &'static str) -> Row {
    row(name)
        .only(Hook::Tc, "XDP leaves it to TC")
        .with(advertises)
}

#[test]
fn solicitations() {
    let from_host = ask(HOST, &[1, 1, 2, 0, 0, 0, 0, 0xc]);
    let from_nobody = ask(Ipv6Addr::UNSPECIFIED, &[]);
    let to_host = sent(0, &advertisement(A, HOST));
    let to_all = sent(0, &advertisement(ALL_NODES_MAC, ALL_NODES));
    let crossed =
        ether(A, ALL_ROUTERS_MAC) / ipv6(HOST, ALL_ROUTERS).hop_limit(254) / icmpv6(133, 0, 0);
    let code =
        ether(A, ALL_ROUTERS_MAC) / ipv6(HOST, ALL_ROUTERS).hop_limit(255) / icmpv6(133, 1, 0);
    router()
        .rows([
            on_tc("a host with an address is answered alone")
                .send(0, &from_host, to_host.clone())
                .then(|cube| assert_eq!(station(cube, 0, HOST), Some(C)))
                .send(0, &from_host, to_host),
            on_tc("one without is answered with all others, but not often")
                .send(0, &from_nobody, to_all.clone())
                .send(0, &from_nobody, dropped(RateLimited))
                .with(|cube| {
                    cube.write("advertised", 0u32, ago(MIN_DELAY_BETWEEN_RAS + SECOND));
                })
                .send(0, &from_nobody, to_all),
            row("XDP leaves it to TC")
                .only(Hook::Xdp, "TC answers")
                .with(advertises)
                .send(0, &from_host, handed_over()),
            on_tc("other ports say nothing").send(1, &from_host, consumed()),
            on_tc("a question from beyond a router").send(0, &crossed, dropped(Malformed)),
            on_tc("a code").send(0, &code, dropped(Malformed)),
        ])
        .run();
}
