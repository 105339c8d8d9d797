//! Bridges that speak only STP (IEEE 802.1D-1998).

use super::network::{Network, settings};
use crate::stp::{
    bpdu::Bpdu,
    instance::BridgeSettings,
    port::{Role, State},
};

/// A triangle in which some bridges speak only STP.
fn triangle(rstp: [bool; 3]) -> Network {
    let mut network = Network::default();
    for (number, priority) in [4096, 8192, 12288].into_iter().enumerate() {
        network.bridge(priority);
        network.bridges[number].set(BridgeSettings {
            rstp: rstp[number],
            ..settings(priority, number)
        });
    }
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        network.link(from, to, 2000);
    }
    network
}

#[test]
fn settles_with_a_bridge_of_old() {
    let rstp = [
        [false, true, true],
        [true, false, true],
        [true, true, false],
        [false; 3],
    ];
    for rstp in rstp {
        let mut network = triangle(rstp);
        network.all_up();
        // Listening, for as long as old information could be about at first, then learning.
        network.tick(20 + 15 + 5);
        network.assert_tree();
        // Twice that after what is in the way has aged.
        network.set_up(2, false);
        network.tick(20 + 2 * 15 + 5);
        network.assert_tree();
    }
}

/// A port whose neighbour speaks STP speaks STP too, and does not forward sooner than STP would
/// (17.24, 17.20.5).
#[test]
fn a_port_takes_to_stp() {
    let mut network = triangle([true, false, true]);
    network.all_up();
    network.tick(10);
    let [ours, theirs] = network.links[0].ends;
    assert_eq!(network.role(ours), Role::Designated);
    assert_eq!(network.state(ours), State::Discarding);
    assert!(!network.bridges[0].ports()[&ours.1].rstp);
    // The other one is as fast as ever.
    assert!(network.bridges[0].ports()[&2].rstp);
    assert_eq!(network.state((0, 2)), State::Forwarding);
    network.tick(25);
    assert_eq!(network.state(ours), State::Forwarding);
    assert_eq!(network.state(theirs), State::Forwarding);
    let last = network.sent.iter().rev().find(|(end, _)| *end == ours);
    assert!(matches!(last, Some((_, Bpdu::Config(_)))), "{last:?}");
}

/// The bridge of old is replaced by a new one on the same cable.
#[test]
fn and_back_when_the_neighbour_is_a_new_one() {
    let mut network = triangle([true, false, true]);
    network.all_up();
    network.tick(40);
    let [ours, _] = network.links[0].ends;
    network.bridges[1].set(settings(8192, 1));
    network.carry_out(1);
    // It begins with RSTP, and is heard once our port has spoken STP for its time (17.24).
    network.tick(5);
    assert!(network.bridges[0].ports()[&ours.1].rstp);
    network.tick(5);
    network.assert_tree();
}

/// A notification goes to the root, and its answer comes back (17.31).
#[test]
fn a_change_is_notified_and_acknowledged() {
    let mut network = triangle([false; 3]);
    network.all_up();
    network.tick(80);
    network.sent.clear();
    network.set_up(1, false);
    network.set_up(2, false);
    network.tick(2);
    network.set_up(1, true);
    network.tick(40);
    let notified = network
        .sent
        .iter()
        .any(|(end, bpdu)| end.0 == 1 && *bpdu == Bpdu::Tcn);
    let acknowledged = network.sent.iter().any(
        |(end, bpdu)| matches!(bpdu, Bpdu::Config(message) if end.0 == 0 && message.acknowledgment),
    );
    assert!(notified && acknowledged, "{notified} {acknowledged}");
}
