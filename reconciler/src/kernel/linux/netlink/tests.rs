//! On the real kernel, in namespaces of these tests' own; without root each test says so and does nothing.
//!
//! What stands for the host is a namespace too: the machine's own interfaces are only ever listed.

use std::{
    fs,
    os::fd::AsFd as _,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo as KindInfo, LinkMessage};

use super::*;

mod layer3;
mod timing;

/// A namespace that goes away with the test.
struct Namespace(String);

impl Namespace {
    fn new(stem: &str) -> Self {
        let name = format!("pcntest-{}-{stem}", std::process::id());
        netns::create(&name).unwrap();
        Self(name)
    }

    fn netlink(&self) -> Netlink {
        Netlink::in_namespace(&self.0).unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        netns::delete(&self.0).unwrap();
    }
}

/// Two namespaces, "host" and "guest".
fn pair(stem: &str) -> Option<(Namespace, Namespace)> {
    if nix::unistd::geteuid().is_root() {
        return Some((
            Namespace::new(&format!("{stem}-host")),
            Namespace::new(&format!("{stem}-guest")),
        ));
    }
    eprintln!("skipped: needs root");
    None
}

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn veth<'a>(name: &'a str, netns: &'a std::os::fd::OwnedFd) -> VethRequest<'a> {
    VethRequest {
        name,
        group: 0,
        alias: "pcn:test",
        mac: Some(MAC),
        mtu: Some(1400),
        peer: VethPeer {
            name: "eth0",
            netns: Some(netns.as_fd()),
            mac: Some(PEER_MAC),
            mtu: Some(1300),
        },
    }
}

/// A pair of namespaces with a veth between them, both ends up: `pcn-x1` on the host, `eth0` in the guest.
fn connected(host: &Namespace, guest: &Namespace) -> (Netlink, Netlink, CreatedVeth) {
    let (mut outside, mut inside) = (host.netlink(), guest.netlink());
    let made = outside
        .create_veth(&veth("pcn-x1", &netns::open(&guest.0).unwrap()))
        .unwrap();
    inside.set_up(made.peer_index).unwrap();
    (outside, inside, made)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Every IPv6 address of an interface, the kernel's own among them.
fn all_ipv6(namespace: &Namespace, interface: &str) -> usize {
    let table = netns::inside(&namespace.0, || {
        fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap()
    })
    .unwrap();
    table
        .lines()
        .filter(|line| line.ends_with(&format!(" {interface}")))
        .count()
}

/// Waits for what the kernel does in the background.
fn wait_until(mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(5), "never happened");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_veth_is_what_was_asked_for() {
    let Some((host, guest)) = pair("veth") else {
        return;
    };
    let (mut outside, mut inside) = (host.netlink(), guest.netlink());
    let made = outside
        .create_veth(&veth("pcn-x1", &netns::open(&guest.0).unwrap()))
        .unwrap();
    let mut expected = LinkInfo {
        group: 0,
        index: made.index,
        name: "pcn-x1".to_owned(),
        alias: Some("pcn:test".to_owned()),
        mac: Some(MAC),
        mtu: 1400,
        up: true,
        carrier: false,
        kind: Some("veth".to_owned()),
        peer_index: Some(made.peer_index),
        loopback: false,
    };
    let found = outside.link("pcn-x1").unwrap().unwrap();
    assert_eq!(found, expected);
    let far = inside.link("eth0").unwrap().unwrap();
    assert_eq!(
        (far.index, far.peer_index, far.up),
        (made.peer_index, Some(made.index), false)
    );
    assert_eq!((far.mac, far.mtu, far.alias), (Some(PEER_MAC), 1300, None));

    inside.set_up(made.peer_index).unwrap();
    expected.carrier = true;
    let listed = outside.links().unwrap();
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert_eq!(
        (listed[0].name.as_str(), listed[0].loopback, listed[0].up),
        ("lo", true, false)
    );
    assert_eq!(listed[1], expected);
    // The kernel notices the carrier a moment later.
    wait_until(|| all_ipv6(&guest, "eth0") == 1);
    assert_eq!(
        all_ipv6(&host, "pcn-x1"),
        0,
        "no address generation on the host end"
    );
    assert_eq!(
        inside.addresses(made.peer_index).unwrap(),
        [],
        "the kernel's own address is not listed"
    );

    inside.delete_link(made.peer_index).unwrap();
    assert_eq!(outside.link("pcn-x1").unwrap(), None);
    outside.delete_link(made.index).unwrap();
}

#[test]
fn defaults_and_the_same_namespace() {
    let Some((host, _guest)) = pair("same") else {
        return;
    };
    let mut outside = host.netlink();
    let peer = VethPeer {
        name: "b",
        netns: None,
        mac: None,
        mtu: None,
    };
    let made = outside
        .create_veth(&VethRequest {
            name: "a",
            group: 0,
            alias: "",
            mac: None,
            mtu: None,
            peer,
        })
        .unwrap();
    let [_lo, first, second] = outside.links().unwrap().try_into().unwrap();
    let (a, b) = if first.name == "a" {
        (first, second)
    } else {
        (second, first)
    };
    assert_eq!((a.index, a.peer_index), (made.index, Some(made.peer_index)));
    assert_eq!((b.index, b.peer_index), (made.peer_index, Some(made.index)));
    assert_eq!((a.alias, a.mtu, b.mtu), (None, 1500, 1500));
    assert!(a.mac.is_some() && b.mac.is_some() && a.mac != b.mac);
}

#[test]
fn an_interface_is_changed_in_place() {
    let Some((host, guest)) = pair("change") else {
        return;
    };
    let (mut outside, _inside, made) = connected(&host, &guest);
    let longest = "n".repeat(255);
    outside.set_alias(made.index, &longest).unwrap();
    outside.set_mac(made.index, [2, 0, 0, 0, 0, 9]).unwrap();
    outside.set_mtu(made.index, 9000).unwrap();
    let found = outside.link("pcn-x1").unwrap().unwrap();
    assert_eq!(
        (found.alias, found.mac, found.mtu),
        (Some(longest), Some([2, 0, 0, 0, 0, 9]), 9000)
    );
    outside.set_alias(made.index, "").unwrap();
    assert_eq!(outside.link("pcn-x1").unwrap().unwrap().alias, None);
    assert!(outside.set_alias(made.index, &"n".repeat(256)).is_err());
    assert!(matches!(
        outside.set_alias(made.index, &"n".repeat(70_000)),
        Err(Error::Malformed { .. })
    ));

    let refused = outside.set_mtu(made.index, 10).unwrap_err().to_string();
    let expected = format!(
        "set MTU of interface {} to 10 in namespace {}: Invalid argument (os error 22): mtu less than device minimum",
        made.index, host.0
    );
    assert_eq!(refused, expected);
}

#[test]
fn refusals_name_call_and_object_and_leave_nothing() {
    let Some((host, guest)) = pair("refusals") else {
        return;
    };
    let (mut outside, mut inside, made) = connected(&host, &guest);
    let namespace = netns::open(&guest.0).unwrap();
    let before = (outside.links().unwrap(), inside.links().unwrap());

    let twice = outside
        .create_veth(&veth("pcn-x1", &namespace))
        .unwrap_err();
    assert!(twice.is_exists() && !twice.is_not_found(), "{twice}");
    let expected = format!(
        "create veth pcn-x1 with peer eth0 in namespace {}: File exists (os error 17)",
        host.0
    );
    assert!(twice.to_string().starts_with(&expected), "{twice}");
    let peer_taken = outside
        .create_veth(&veth("pcn-x2", &namespace))
        .unwrap_err();
    assert!(peer_taken.is_exists(), "{peer_taken}");
    let mut request = veth("pcn-x2", &namespace);
    request.peer.name = "eth1";
    let long = "n".repeat(256);
    request.alias = &long;
    let second_half = outside.create_veth(&request).unwrap_err();
    assert!(
        matches!(second_half, Error::Refused { .. }),
        "{second_half}"
    );
    let too_long = outside
        .create_veth(&VethRequest {
            name: "a-name-of-16-byt",
            group: 0,
            ..request
        })
        .unwrap_err();
    assert!(!too_long.is_exists(), "{too_long}");
    assert_eq!((outside.links().unwrap(), inside.links().unwrap()), before);

    let absent = made.index + 1000;
    for error in [
        outside.set_up(absent).unwrap_err(),
        outside.set_mtu(absent, 1500).unwrap_err(),
        outside.set_alias(absent, "x").unwrap_err(),
        outside.set_addr_gen_none(absent).unwrap_err(),
        outside.add_address(absent, ip("10.0.0.1"), 24).unwrap_err(),
        outside.addresses(absent).unwrap_err(),
        outside.routes(absent).unwrap_err(),
        outside.set_gro("absent", true).unwrap_err(),
        outside.gro("absent").unwrap_err(),
        Netlink::in_namespace("pcntest-absent").unwrap_err(),
    ] {
        assert!(error.is_not_found() && !error.is_exists(), "{error}");
    }
    outside.delete_link(absent).unwrap();
    outside.delete_address(absent, ip("10.0.0.1"), 24).unwrap();
    outside
        .delete_route(absent, (ip("10.9.0.0"), 16), ip("10.0.0.2"))
        .unwrap();
    assert_eq!(outside.link("absent").unwrap(), None);
    // The loopback interface is nobody's to delete.
    assert!(outside.delete_link(1).is_err());
}

#[test]
fn gro_is_switched() {
    let Some((host, guest)) = pair("gro") else {
        return;
    };
    let (mut outside, mut inside, _made) = connected(&host, &guest);
    for (netlink, interface) in [(&mut outside, "pcn-x1"), (&mut inside, "eth0")] {
        let before = netlink.gro(interface).unwrap();
        for on in [true, true, false, false, before] {
            netlink.set_gro(interface, on).unwrap();
            assert_eq!(netlink.gro(interface).unwrap(), on);
        }
    }
}

#[test]
fn address_generation_stops() {
    let Some((host, guest)) = pair("addrgen") else {
        return;
    };
    let (mut outside, mut inside) = (host.netlink(), guest.netlink());
    let namespace = netns::open(&guest.0).unwrap();
    let made = outside.create_veth(&veth("pcn-x1", &namespace)).unwrap();
    let mut request = veth("pcn-x2", &namespace);
    request.peer.name = "ordinary";
    let ordinary = outside.create_veth(&request).unwrap();
    inside.set_addr_gen_none(made.peer_index).unwrap();
    inside.set_up(made.peer_index).unwrap();
    inside.set_up(ordinary.peer_index).unwrap();
    wait_until(|| all_ipv6(&guest, "ordinary") == 1);
    assert_eq!(all_ipv6(&guest, "eth0"), 0);
}

#[test]
fn an_mtu_too_small_for_ipv6_is_no_obstacle() {
    let Some((host, guest)) = pair("small") else {
        return;
    };
    let (mut outside, mut inside) = (host.netlink(), guest.netlink());
    let namespace = netns::open(&guest.0).unwrap();
    let mut request = veth("pcn-x1", &namespace);
    (request.mtu, request.peer.mtu) = (Some(1000), Some(1000));
    let made = outside.create_veth(&request).unwrap();
    inside.set_addr_gen_none(made.peer_index).unwrap();
    inside.set_up(made.peer_index).unwrap();
    let found = outside.link("pcn-x1").unwrap().unwrap();
    assert_eq!(
        (found.alias.as_deref(), found.mtu, found.up),
        (Some("pcn:test"), 1000, true)
    );

    outside.set_addr_gen_none(made.index).unwrap();
    outside.set_mtu(made.index, 1280).unwrap();
    outside.set_addr_gen_none(made.index).unwrap();
}

#[test]
fn many_interfaces_go_at_once() {
    let Some((host, guest)) = pair("bulk") else {
        return;
    };
    let (mut outside, mut inside) = (host.netlink(), guest.netlink());
    let namespace = netns::open(&guest.0).unwrap();
    let names: Vec<_> = (0..4)
        .map(|number| (format!("pcn-{number}"), format!("eth{number}")))
        .collect();
    let mut made = Vec::new();
    for (name, peer) in &names {
        let mut request = veth(name, &namespace);
        request.peer.name = peer;
        made.push(outside.create_veth(&request).unwrap().index);
    }
    // The group that would be taken first belongs to somebody.
    let mut message = LinkMessage::default();
    message.header.index = made[0];
    message
        .attributes
        .push(LinkAttribute::Group(i32::MAX as u32 - 1));
    outside
        .change((libc::RTM_NEWLINK, 0), &message, "set group")
        .unwrap();
    // The loopback interface cannot be deleted, and so nothing is.
    assert!(outside.delete_links(&[made[1], 1]).is_err());
    assert_eq!(outside.links().unwrap().len(), 5);

    outside.delete_links(&[]).unwrap();
    outside
        .delete_links(&[made[1], made[2], made[3] + 1000])
        .unwrap();
    let left: Vec<_> = outside
        .links()
        .unwrap()
        .into_iter()
        .map(|link| link.name)
        .collect();
    assert_eq!(left, ["lo", "pcn-0", "pcn-3"]);
    assert_eq!(inside.links().unwrap().len(), 3);
    outside.delete_links(&[made[1], made[2]]).unwrap();
    outside.delete_links(&made[3..]).unwrap();
    assert_eq!(outside.links().unwrap().len(), 2);
}

#[test]
fn every_kind_of_interface_can_be_listed() {
    let Some((host, _guest)) = pair("kinds") else {
        return;
    };
    let mut outside = host.netlink();
    let mut made = 0;
    for kind in [
        InfoKind::Bridge,
        InfoKind::Dummy,
        InfoKind::Tun,
        InfoKind::Vrf,
        InfoKind::Ifb,
        InfoKind::Wireguard,
    ] {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::LinkInfo(vec![KindInfo::Kind(kind)]));
        let create = (libc::RTM_NEWLINK, netlink_packet_core::NLM_F_CREATE);
        made += usize::from(outside.change(create, &message, "create").is_ok());
    }
    assert_eq!(outside.links().unwrap().len(), 1 + made);
    // Reading only.
    let listed = Netlink::host().unwrap().links().unwrap();
    assert!(
        listed.iter().any(|link| link.loopback && link.name == "lo"),
        "{listed:?}"
    );
}

#[test]
fn a_failed_reader_leaves_the_conversation_usable() {
    let Some((host, guest)) = pair("reader") else {
        return;
    };
    let (mut outside, _inside, _made) = connected(&host, &guest);
    for _ in 0..3 {
        let failed = outside.list(libc::RTM_GETLINK, &LinkMessage::default(), "list", |_| {
            Err::<Option<()>, _>(DecodeError::from("no"))
        });
        assert!(matches!(failed, Err(Error::Malformed { .. })));
        assert_eq!(outside.links().unwrap().len(), 2);
    }
}

#[test]
fn a_listing_survives_changes_meanwhile() {
    let Some((host, guest)) = pair("churn") else {
        return;
    };
    let mut outside = host.netlink();
    let namespace = netns::open(&guest.0).unwrap();
    // Enough for several reads.
    let names: Vec<_> = (0..100)
        .map(|number| (format!("pcn-{number}"), format!("eth{number}")))
        .collect();
    for (name, peer) in &names {
        let mut request = veth(name, &namespace);
        request.peer.name = peer;
        outside.create_veth(&request).unwrap();
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut other = host.netlink();
            while !done.load(Ordering::Relaxed) {
                let peer = VethPeer {
                    name: "churn-b",
                    netns: None,
                    mac: None,
                    mtu: None,
                };
                let request = VethRequest {
                    name: "churn-a",
                    group: 0,
                    alias: "",
                    mac: None,
                    mtu: None,
                    peer,
                };
                let made = other.create_veth(&request).unwrap();
                other.delete_link(made.index).unwrap();
            }
        });
        for _ in 0..100 {
            let listed = outside.links();
            let ours = listed.map(|links| {
                links
                    .iter()
                    .filter(|link| link.name.starts_with("pcn-"))
                    .count()
            });
            done.store(!matches!(ours, Ok(100)), Ordering::Relaxed);
            assert_eq!(ours.unwrap(), 100);
        }
        done.store(true, Ordering::Relaxed);
    });
}
