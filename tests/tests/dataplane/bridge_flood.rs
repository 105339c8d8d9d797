//! `bridge`: the copies of a flooded frame, on real interfaces.

use std::collections::BTreeMap;

use ebpf_abi::{
    bridge::Settings,
    port::{HOP_INTERFACE, Hop, Port},
};
use integration_tests::{
    capture::Capture,
    cube::{Globals, Kind},
    packet::{BROADCAST, ether, payload},
    private_net, require,
    test_run::{Gso, Hook, Verdict},
};
use reconciler::kernel::linux::netlink::{CreatedVeth, Netlink, VethPeer, VethRequest};

fn veth(netlink: &mut Netlink, number: u32) -> CreatedVeth {
    let pair = netlink
        .create_veth(&VethRequest {
            name: &format!("near{number}"),
            alias: "",
            group: 0,
            mac: None,
            mtu: None,
            peer: VethPeer {
                name: &format!("far{number}"),
                netns: None,
                mac: None,
                mtu: None,
            },
        })
        .expect("a veth pair in a namespace of our own");
    netlink
        .set_up(pair.peer_index)
        .expect("the far end is there");
    pair
}

/// Five ports lead to interfaces, three to programs, two of these through an interface.
#[test]
fn each_port_gets_one_copy() {
    if !require::root() {
        return;
    }
    private_net::run(|netlink| {
        let settings = bytemuck::bytes_of(&Settings {
            aging_time: 1 << 40,
            ..Settings::default()
        })
        .to_vec();
        let cube = Kind::parse("bridge").load(
            Hook::Tc,
            &Globals::from([("SETTINGS".to_owned(), settings)]),
            &BTreeMap::new(),
        );
        cube.write_banked("flood", 0, 8u32);
        (0..8u32).for_each(|port| cube.write_banked("flood", port + 1, port));
        let mut expected = BTreeMap::new();
        let mut first_far = None;
        for number in 0..5 {
            let pair = veth(netlink, number);
            let hop = Hop {
                kind: HOP_INTERFACE,
                ifindex: pair.index,
                port: 0,
            };
            cube.write_banked(
                "ports",
                number,
                Port {
                    hop,
                    ..Port::default()
                },
            );
            // What is sent out of the near end is received by the far end.
            expected.insert(pair.peer_index, 1);
            first_far = first_far.or(Some(pair.peer_index));
        }
        for number in 5..7 {
            let pair = veth(netlink, number);
            cube.lead_to_program(number, number + 10);
            cube.change_port(number, |port| port.flood_ifindex = pair.index);
            // What is to run the programs of an interface is received by itself.
            expected.insert(pair.index, 1);
        }
        cube.lead_to_program(7, 17);

        let capture = Capture::start();
        let frame = (ether([2, 0, 0, 0, 0, 0xa], BROADCAST) / payload(100)).bytes();
        // From an interface: nothing goes back.
        let first = cube.run(0, &frame, Gso::default());
        let mut without_first = expected.clone();
        let first_far = first_far.expect("five interfaces");
        assert!(without_first.remove(&first_far).is_some());
        assert_eq!(capture.count(&frame, 6), without_first);
        assert_eq!((first.verdict, first.port), (Verdict::Pass, 17));
        assert_eq!(first.packet, frame);

        // From a program: all interfaces, and the other programs.
        let second = cube.run(7, &frame, Gso::default());
        assert_eq!(capture.count(&frame, 7), expected);
        assert_eq!(second.verdict, Verdict::Drop);
        let sent: Vec<u64> = cube
            .counters(8)
            .iter()
            .map(|port| port.tx_packets)
            .collect();
        assert_eq!(sent, [1, 2, 2, 2, 2, 2, 2, 1]);
    });
}
