//! How fast: on links with two ends, as fast as messages go.

use super::network::{Network, settings};
use crate::stp::{
    bpdu::Bpdu,
    instance::{BridgeSettings, HOLD_COUNT},
    port::{Role, State},
    vector::Times,
};

/// A triangle whose first bridge is the root.
fn triangle() -> (Network, [usize; 3]) {
    let mut network = Network::default();
    let [a, b, c] = [4096, 8192, 12288].map(|priority| network.bridge(priority));
    let links = [(a, b), (b, c), (c, a)].map(|(from, to)| network.link(from, to, 2000));
    (network, links)
}

#[test]
fn a_triangle_settles_without_waiting() {
    let (mut network, [_, between, _]) = triangle();
    network.all_up();
    network.assert_tree();
    let [designated, alternate] = network.links[between].ends;
    assert_eq!(network.role(designated), Role::Designated);
    assert_eq!(network.role(alternate), Role::Alternate);
}

#[test]
fn a_link_that_breaks_is_replaced_at_once() {
    let (mut network, [_, _, last]) = triangle();
    network.all_up();
    network.tick(10);
    network.set_up(last, false);
    network.assert_tree();
    network.tick(10);
    network.set_up(last, true);
    network.assert_tree();
}

#[test]
fn a_better_root_takes_over() {
    let (mut network, links) = triangle();
    network.all_up();
    network.tick(10);
    let better = BridgeSettings {
        id: crate::stp::vector::BridgeId {
            priority: 0,
            ..network.bridges[2].settings().id
        },
        ..*network.bridges[2].settings()
    };
    network.bridges[2].set(better);
    network.carry_out(2);
    network.deliver();
    network.tick(2);
    network.assert_tree();
    assert_eq!(network.bridges[0].root().0, better.id);
    assert_eq!(
        network.role(network.links[links[0]].ends[1]),
        Role::Alternate
    );
}

/// The message that says so gets lost, and nothing else says that the root is gone.
#[test]
fn silence_is_noticed_after_three_hellos() {
    let (mut network, [first, ..]) = triangle();
    network.all_up();
    network.tick(10);
    // The second bridge's port to the root hears nothing more.
    network.links[first].deaf = true;
    let [_, end] = network.links[first].ends;
    network.tick(5);
    assert_eq!(network.role(end), Role::Root);
    network.tick(2);
    assert_eq!(
        network.bridges[1].root_port(),
        Some(2),
        "by the third bridge"
    );
    network.tick(5);
    // The root's end is told by what it hears that it is not heard (17.21.10).
    assert_eq!(
        network.state(network.links[first].ends[0]),
        State::Discarding
    );
    network.assert_no_loop();
}

#[test]
fn stations_are_forgotten_when_they_may_have_moved() {
    let (mut network, [first, between, last]) = triangle();
    network.all_up();
    network.tick(10);
    network.flushes.clear();
    let changes = network.bridges[2].changes();
    network.set_up(last, false);
    // The root's way to the third bridge was its second port, and is the first one now.
    assert!(
        network.flushes.contains(&network.links[first].ends[0])
            || network.flushes.contains(&network.links[last].ends[1])
    );
    assert!(network.flushes.contains(&network.links[first].ends[1]));
    assert_eq!(network.bridges[2].changes(), changes + 1);
    assert!(network.bridges[1].is_changing(), "tells the root");
    // Not where the news came from.
    assert!(!network.flushes.contains(&network.links[between].ends[0]));
    network.tick(10);
    assert!(!network.bridges[1].is_changing());
}

#[test]
fn no_more_messages_than_may_be_held() {
    let (mut network, [first, ..]) = triangle();
    network.all_up();
    for _ in 0..20 {
        network.sent.clear();
        for flap in [false, true, false, true] {
            network.set_up(first, flap);
        }
        network.tick(1);
        let (watched, _) = (network.links[1].ends[0], ());
        let count = network
            .sent
            .iter()
            .filter(|(end, _)| *end == watched)
            .count();
        assert!(count <= usize::from(HOLD_COUNT) + 1, "{count}");
    }
    network.tick(30);
    network.assert_tree();
}

#[test]
fn times_are_the_roots() {
    let mut network = Network::default();
    let [a, b, c] = [0, 4096, 8192].map(|priority| network.bridge(priority));
    network.link(a, b, 2000);
    let last = network.link(b, c, 2000);
    let times = Times {
        message_age: 0,
        max_age: 10,
        hello_time: 1,
        forward_delay: 6,
    };
    network.bridges[a].set(BridgeSettings {
        times,
        ..settings(0, a)
    });
    network.all_up();
    network.tick(3);
    assert_eq!(network.bridges[c].root_times().max_age, 10);
    assert_eq!(network.bridges[c].root_times().forward_delay, 6);
    assert_eq!(
        network.bridges[c].root_times().message_age,
        2,
        "two bridges away"
    );
    // Its own hello time (17.19.4).
    let from = network.links[last].ends[0];
    let said = network
        .sent
        .iter()
        .rev()
        .find_map(|(end, bpdu)| match bpdu {
            Bpdu::Rst(message, _) if *end == from => Some(message.times.hello_time),
            _ => None,
        });
    assert_eq!(said, Some(2));
}

#[test]
fn a_port_that_goes_takes_its_way_with_it() {
    let (mut network, [_, _, last]) = triangle();
    network.all_up();
    let (bridge, port) = network.links[last].ends[0];
    network.links[last].up = false;
    network.bridges[bridge].remove_port(port);
    network.bridges[0].set_enabled(2, false);
    for bridge in 0..3 {
        network.carry_out(bridge);
    }
    network.states.remove(&(bridge, port));
    network.deliver();
    network.tick(3);
    assert_eq!(
        network.bridges[bridge].root(),
        (network.bridges[0].settings().id, 4000)
    );
    for _ in 0..2 {
        let port = *network.bridges[bridge].ports().keys().next().unwrap_or(&0);
        network.bridges[bridge].remove_port(port);
    }
    let id = network.bridges[bridge].settings().id;
    assert_eq!(network.bridges[bridge].root(), (id, 0));
}
