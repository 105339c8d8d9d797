//! Linux as a forwarding firewall between two TAP interfaces.

use integration_tests::command::{run, run_with};
use reconciler::kernel::linux::tap::Tap;

use super::{super::*, script::Mode};

/// An interface: its name and address, the address of the host behind it; its IP addresses, and those of the host.
type Side = (
    &'static str,
    [u8; 6],
    [u8; 6],
    [&'static str; 2],
    [&'static str; 2],
);

/// The interface of each direction at which its packets come in.
const SIDES: [Side; 2] = [
    (
        "outside",
        [2, 0, 0, 0, 1, 0],
        OUT,
        ["192.0.2.254/24", "2001:db8::fe/64"],
        ["192.0.2.1", "2001:db8::1"],
    ),
    (
        "inside",
        [2, 0, 0, 0, 2, 0],
        IN,
        ["10.1.2.254/24", "fd00:0:0:1::fe/64"],
        ["10.1.2.3", "fd00:0:0:1::3"],
    ),
];

/// A namespace that forwards.
pub(super) struct Linux {
    taps: [Tap; 2],
}

impl Linux {
    /// In the calling thread's namespace, which has no other interfaces.
    pub(super) fn new(mode: Mode) -> Self {
        let taps = SIDES.map(|(name, mac, host, addresses, neighbors)| {
            let tap = Tap::open("test").expect("root can make a TAP interface");
            let links = run("ip -j link show").expect(0).json();
            let mut links = links.as_array().expect("a list").iter();
            let made = links
                .find(|link| link["ifindex"] == tap.index())
                .expect("it was made");
            let made = made["ifname"].as_str().expect("a name");
            let text = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
            let mut batch = format!(
                "link set {made} down name {name} address {}\nlink set {name} up\n",
                text(mac)
            );
            for address in addresses {
                batch += &format!("address add {address} dev {name}\n");
            }
            for neighbor in neighbors {
                batch += &format!(
                    "neigh replace {neighbor} lladdr {} dev {name} nud permanent\n",
                    text(host)
                );
            }
            run(&format!("sysctl -qw net.ipv6.conf.{made}.accept_dad=0")).expect(0);
            run_with("ip -batch -", &batch).expect(0);
            tap
        });
        // The module is loaded with the first rule that needs it, and its settings are there then.
        let linux = Self { taps };
        linux.load("table inet t { chain c { type filter hook forward priority 0; ct state new accept\n}\n}\n");
        let common = "net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.netfilter.nf_conntrack_tcp_loose=0";
        run(&format!("sysctl -qw {common} {}", mode.sysctls())).expect(0);
        linux
    }

    /// Takes rules over, and forgets all connections.
    pub(super) fn load(&self, rules: &str) {
        run_with("nft -f -", rules).expect(0);
        run("conntrack -F").expect(0);
    }

    /// Whether all of a datagram's fragments come out on the other side.
    pub(super) fn meet(&self, direction: Direction, frames: &[Vec<u8>]) -> bool {
        let entry = direction as usize;
        for tap in &self.taps {
            while tap.departed().expect("it is there").is_some() {}
        }
        for frame in frames {
            let mut frame = frame.clone();
            frame[..6].copy_from_slice(&SIDES[entry].1);
            self.taps[entry].arrive(&frame).expect("it is up");
        }
        let mut passed = 0;
        while let Some(frame) = self.taps[1 - entry].departed().expect("it is there") {
            // What the kernel sends of itself has other addresses.
            passed += usize::from(sender(&frame) == sender(&frames[0]));
        }
        assert!(
            passed == 0 || passed == frames.len(),
            "{passed} of {frames:?}"
        );
        passed != 0
    }
}

/// The source address, of either family.
fn sender(frame: &[u8]) -> &[u8] {
    match frame[12..14] {
        [0x08, 0x00] => &frame[26..30],
        [0x86, 0xdd] => &frame[22..38],
        _ => &[],
    }
}
