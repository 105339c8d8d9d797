//! Addresses and routes.

use super::*;

#[test]
fn addresses_are_usable_at_once() {
    let Some((host, guest)) = pair("address") else {
        return;
    };
    let (mut outside, mut inside, made) = connected(&host, &guest);
    let eth0 = made.peer_index;
    let wanted = [
        (ip("10.0.0.2"), 24),
        (ip("192.0.2.1"), 32),
        (ip("2001:db8::2"), 64),
        (ip("fe80::2"), 64),
    ];
    for (address, prefix_len) in wanted.iter().rev().copied() {
        inside.add_address(eth0, address, prefix_len).unwrap();
        let twice = inside.add_address(eth0, address, prefix_len).unwrap_err();
        assert!(twice.is_exists(), "{twice}");
    }
    // Usable: nothing has to wait for duplicate address detection.
    netns::inside(&guest.0, || {
        std::net::UdpSocket::bind("[2001:db8::2]:7").unwrap()
    })
    .unwrap();
    assert_eq!(inside.addresses(eth0).unwrap(), wanted);
    assert_eq!(
        inside.addresses(1).unwrap(),
        [],
        "another interface's are not listed"
    );
    let broadcasts = netns::inside(&guest.0, || {
        let output = std::process::Command::new("ip")
            .args(["-4", "-o", "addr", "show", "eth0"])
            .output();
        output.map(|output| String::from_utf8(output.stdout).unwrap())
    });
    if let Ok(text) = broadcasts.unwrap() {
        assert!(
            text.contains("10.0.0.2/24 brd 10.0.0.255 scope global eth0"),
            "{text}"
        );
        assert!(text.contains("192.0.2.1/32 scope global eth0"), "{text}");
    }
    for (address, prefix_len) in wanted {
        inside.delete_address(eth0, address, prefix_len).unwrap();
        inside.delete_address(eth0, address, prefix_len).unwrap();
    }
    assert_eq!(inside.addresses(eth0).unwrap(), []);
    assert_eq!(outside.addresses(made.index).unwrap(), []);

    inside.set_up(1).unwrap();
    inside.add_address(1, ip("127.0.0.9"), 8).unwrap();
    assert_eq!(
        inside.addresses(1).unwrap(),
        [(ip("127.0.0.9"), 8)],
        "without 127.0.0.1 and ::1"
    );
    let disabled = format!("net/ipv6/conf/{}/disable_ipv6", "eth0");
    netns::write_sysctl(Some(&guest.0), &disabled, "1").unwrap();
    let refused = inside
        .add_address(eth0, ip("2001:db8::2"), 64)
        .unwrap_err()
        .to_string();
    assert!(
        refused
            .ends_with(": Permission denied (os error 13): ipv6: IPv6 is disabled on this device"),
        "{refused}"
    );
}

#[test]
fn routes_of_ours_only() {
    let Some((host, guest)) = pair("route") else {
        return;
    };
    let (_outside, mut inside, made) = connected(&host, &guest);
    let eth0 = made.peer_index;
    inside.add_address(eth0, ip("10.0.0.2"), 24).unwrap();
    inside.add_address(eth0, ip("2001:db8::2"), 64).unwrap();
    assert_eq!(
        inside.routes(eth0).unwrap(),
        [],
        "the kernel's own are not listed"
    );
    let route = |destination: &str, prefix_len, via: &str| RouteInfo {
        destination: (ip(destination), prefix_len),
        via: ip(via),
    };
    let wanted = [
        route("0.0.0.0", 0, "10.0.0.1"),
        route("10.9.0.0", 16, "2001:db8::1"),
        route("10.10.0.0", 16, "10.0.0.3"),
        route("::", 0, "2001:db8::1"),
        route("2001:db8:9::", 48, "fe80::1"),
    ];
    for RouteInfo { destination, via } in wanted.iter().rev().copied() {
        inside.add_route(eth0, destination, via).unwrap();
        let twice = inside.add_route(eth0, destination, via).unwrap_err();
        assert!(twice.is_exists(), "{twice}");
    }
    assert_eq!(inside.routes(eth0).unwrap(), wanted);
    assert_eq!(inside.routes(1).unwrap(), []);

    let refused = inside
        .add_route(eth0, (ip("10.11.0.0"), 16), ip("172.16.0.1"))
        .unwrap_err()
        .to_string();
    assert!(
        refused.ends_with(": Network is unreachable (os error 101): Nexthop has invalid gateway"),
        "{refused}"
    );
    let refused = inside
        .add_route(eth0, (ip("10.11.0.1"), 16), ip("10.0.0.1"))
        .unwrap_err()
        .to_string();
    assert!(
        refused.ends_with(": Invalid prefix for given prefix length"),
        "{refused}"
    );

    // A route of the same form by somebody else stays.
    let other = netns::inside(&guest.0, || {
        let arguments = [
            "route",
            "add",
            "10.12.0.0/16",
            "via",
            "10.0.0.1",
            "dev",
            "eth0",
        ];
        std::process::Command::new("ip").args(arguments).status()
    });
    if other.unwrap().is_ok_and(|status| status.success()) {
        inside
            .delete_route(eth0, (ip("10.12.0.0"), 16), ip("10.0.0.1"))
            .unwrap();
        let table = netns::inside(&guest.0, || {
            fs::read_to_string("/proc/thread-self/net/route").unwrap()
        })
        .unwrap();
        assert!(table.contains("00000C0A"), "{table}");
    }
    assert_eq!(inside.routes(eth0).unwrap(), wanted);
    for RouteInfo { destination, via } in wanted {
        inside.delete_route(eth0, destination, via).unwrap();
        inside.delete_route(eth0, destination, via).unwrap();
    }
    assert_eq!(inside.routes(eth0).unwrap(), []);
}
