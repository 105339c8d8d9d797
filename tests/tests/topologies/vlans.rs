//! VLANs on real interfaces: whole frames into and out of TAP interfaces, with their tags, on both
//! hooks.

use std::{
    net::Ipv6Addr,
    time::{Duration, Instant},
};

use integration_tests::{
    lab::run_test,
    packet::{BROADCAST, Packet, Vlan, ether, ipv4, ipv6, payload, udp, vlan},
    wait,
};
use reconciler::kernel::linux::tap::Tap;

const A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
const B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];
const C: [u8; 6] = [2, 0, 0, 0, 0, 0xc];

const ACCESS_10: usize = 0;
const ACCESS_20: usize = 1;
const TRUNK: usize = 2;
const NATIVE_10: usize = 3;
const PLAIN: usize = 4;
const PORTS: [&str; 5] = [
    "access: 10",
    "access: 20",
    "trunk: { allowed: [10, 20] }",
    "trunk: { allowed: [10, 20], native: 10 }",
    "",
];

fn topology(hook: &str) -> String {
    let mut text = "apiVersion: pcn.dev/v1alpha1\nkind: Topology\nmetadata: { name: taps }\nspec:\n  interfaces:\n".to_owned();
    for index in 0..PORTS.len() {
        text += &format!("    pcnwait{index}: {{ hook: {hook} }}\n");
    }
    text += "  cubes:\n    br:\n      bridge:\n        ports:\n";
    for (index, port) in PORTS.iter().enumerate() {
        text += &format!("          p{index}: {{ {port} }}\n");
    }
    text += "  links:\n";
    for index in 0..PORTS.len() {
        text += &format!("    - [br:p{index}, pcnwait{index}]\n");
    }
    text
}

fn host(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number)
}

/// A frame of either family, so that both cross.
fn frame(from: [u8; 6], to: [u8; 6], tags: &[Vlan], number: u16) -> Packet {
    let mut tags = tags.iter().cloned();
    let header = ether(from, to);
    let v6 = || ipv6(host(1), host(2));
    let v4 = || ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    let even = number.is_multiple_of(2);
    let inside = |packet: Packet| packet / udp(number, 9) / payload(100);
    match (tags.next(), tags.next(), even) {
        (Some(outer), Some(inner), true) => inside(header / outer / inner / v4()),
        (Some(outer), Some(inner), false) => inside(header / outer / inner / v6()),
        (Some(tag), None, true) => inside(header / tag / v4()),
        (Some(tag), None, false) => inside(header / tag / v6()),
        (None, _, true) => inside(header / v4()),
        (None, _, false) => inside(header / v6()),
    }
}

/// Frames that were sent to an interface and are the test's.
fn departed(tap: &Tap) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some(frame) = tap.departed().expect("a TAP interface can be read") {
        if [A, B, C]
            .iter()
            .any(|station| frame.get(6..12) == Some(station))
        {
            frames.push(frame);
        }
    }
    frames
}

/// A frame into a port, and what comes out of others.
struct Exchange {
    name: &'static str,
    from: usize,
    frame: Packet,
    out: Vec<(usize, Packet)>,
}

fn exchanges() -> Vec<Exchange> {
    let mut number = 0;
    let mut exchange = |name,
                        (from, source, to, tags): (usize, [u8; 6], [u8; 6], &[Vlan]),
                        out: &[(usize, &[Vlan])]| {
        number += 1;
        Exchange {
            name,
            from,
            frame: frame(source, to, tags, number),
            out: out
                .iter()
                .map(|(port, tags)| (*port, frame(source, to, tags, number)))
                .collect(),
        }
    };
    let high = |id| vlan(id).priority(5).drop_eligible(true);
    let mut all = Vec::new();
    // Twice each, once per family.
    for _ in 0..2 {
        all.extend([
            exchange(
                "for all, without a tag",
                (ACCESS_10, A, BROADCAST, &[]),
                &[(TRUNK, &[vlan(10)]), (NATIVE_10, &[])],
            ),
            exchange(
                "for all, with a tag",
                (TRUNK, B, BROADCAST, &[high(20)]),
                &[(ACCESS_20, &[]), (NATIVE_10, &[high(20)])],
            ),
            exchange(
                "for all of the native VLAN",
                (NATIVE_10, C, BROADCAST, &[]),
                &[(ACCESS_10, &[]), (TRUNK, &[vlan(10)])],
            ),
            exchange(
                "for all, with a priority alone",
                (ACCESS_10, A, BROADCAST, &[high(0)]),
                &[(TRUNK, &[high(10)]), (NATIVE_10, &[])],
            ),
            exchange(
                "for all, with two tags",
                (TRUNK, B, BROADCAST, &[high(10), vlan(77).priority(1)]),
                &[(ACCESS_10, &[vlan(77).priority(1)])],
            ),
            exchange(
                "for a group",
                (TRUNK, B, [1, 0, 0x5e, 1, 2, 3], &[vlan(10)]),
                &[(ACCESS_10, &[]), (NATIVE_10, &[])],
            ),
            exchange("nobody else is on VLAN 1", (PLAIN, C, BROADCAST, &[]), &[]),
            exchange(
                "tagged, from an access port",
                (ACCESS_20, C, BROADCAST, &[vlan(20)]),
                &[],
            ),
            exchange(
                "to a known station",
                (NATIVE_10, C, A, &[]),
                &[(ACCESS_10, &[])],
            ),
            exchange(
                "and back, with a tag",
                (ACCESS_10, A, B, &[]),
                &[(TRUNK, &[vlan(10)])],
            ),
            exchange(
                "with its priority",
                (ACCESS_10, A, B, &[high(0)]),
                &[(TRUNK, &[high(10)])],
            ),
            exchange("a tag off", (TRUNK, B, A, &[high(10)]), &[(ACCESS_10, &[])]),
            exchange(
                "unknown in the other VLAN",
                (ACCESS_20, C, A, &[]),
                &[(TRUNK, &[vlan(20)]), (NATIVE_10, &[vlan(20)])],
            ),
        ]);
    }
    all
}

fn frames_have_their_tags(hook: &'static str) {
    run_test(|lab| {
        let taps: Vec<Tap> = PORTS
            .iter()
            .map(|_| Tap::open("").expect("root can open a TAP interface"))
            .collect();
        lab.apply(&topology(hook));
        taps.iter().for_each(|tap| drop(departed(tap)));
        for Exchange {
            name,
            from,
            frame,
            out,
        } in exchanges()
        {
            let mut expected: Vec<Vec<Vec<u8>>> = vec![Vec::new(); taps.len()];
            for (port, frame) in out {
                expected[port].push(frame.bytes());
            }
            taps[from]
                .arrive(&frame.bytes())
                .expect("a frame can be written");
            let mut seen: Vec<Vec<Vec<u8>>> = vec![Vec::new(); taps.len()];
            let deadline = Instant::now() + wait::PATIENCE;
            // What is too much is seen here, or with the frames of the next one.
            loop {
                for (tap, seen) in taps.iter().zip(&mut seen) {
                    seen.extend(departed(tap));
                }
                let count = |frames: &[Vec<Vec<u8>>]| frames.iter().map(Vec::len).sum::<usize>();
                if count(&seen) >= count(&expected) || Instant::now() > deadline {
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(seen, expected, "{name}, on {hook}");
        }
        let drops = &lab.show("taps")["cubes"]["br"]["ports"]["p1"]["drops"]["vlanNotAllowed"];
        assert_eq!(drops.as_u64(), Some(2), "{drops}");
        lab.pcn("destroy --yes taps").expect(0);
    });
}

#[test]
fn frames_have_their_tags_on_tc() {
    frames_have_their_tags("tc");
}

#[test]
fn frames_have_their_tags_on_xdp() {
    frames_have_their_tags("xdp");
}
