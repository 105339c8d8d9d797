//! An engine that takes over from another one.

use super::network::Network;
use crate::stp::{
    instance::Instance,
    port::{Role, State},
};

fn triangle() -> Network {
    let mut network = Network::default();
    for priority in [4096, 8192, 12288] {
        network.bridge(priority);
    }
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        network.link(from, to, 2000);
    }
    network.all_up();
    network.tick(10);
    network
}

/// Replaces a bridge's engine by one that knows what the map of the kernel would say.
fn replace(network: &mut Network, bridge: usize) {
    let old = &network.bridges[bridge];
    let memories: Vec<_> = old
        .ports()
        .into_keys()
        .filter_map(|port| Some((port, old.memory(port)?)))
        .collect();
    let mut new = Instance::new(*old.settings());
    new.resume(
        memories
            .iter()
            .map(|(port, memory)| (*port, super::network::plain(), memory)),
    );
    network.bridges[bridge] = new;
    network.carry_out(bridge);
    network.deliver();
}

#[test]
fn nothing_changes_for_anybody() {
    for bridge in 0..3 {
        let mut network = triangle();
        let states = network.states.clone();
        let changes: Vec<_> = network.bridges.iter().map(Instance::changes).collect();
        network.flushes.clear();
        replace(&mut network, bridge);
        network.tick(60);
        assert_eq!(network.states, states, "bridge {bridge}");
        assert_eq!(network.flushes, [], "bridge {bridge}");
        network.assert_tree();
        for (number, instance) in network.bridges.iter().enumerate() {
            if number != bridge {
                assert_eq!(instance.changes(), changes[number]);
            }
        }
    }
}

/// What was remembered is no longer true: the root went meanwhile.
#[test]
fn what_is_no_longer_true_ages() {
    let mut network = triangle();
    let [_, end] = network.links[0].ends;
    assert_eq!(network.role(end), Role::Root);
    network.links[0].deaf = true;
    replace(&mut network, 1);
    network.tick(8);
    assert_eq!(network.bridges[1].root_port(), Some(2));
    network.assert_no_loop();
}

/// A link broke while nobody was there.
#[test]
fn a_port_that_is_down_by_now() {
    let mut network = triangle();
    network.links[0].up = false;
    network.bridges[0].set_enabled(1, false);
    network.carry_out(0);
    let old = network.bridges[1].clone();
    let memory = old.memory(2).expect("there");
    let mut new = Instance::new(*old.settings());
    new.resume([(2, super::network::plain(), &memory)]);
    new.set_port(1, super::network::plain());
    network.bridges[1] = new;
    network.states.insert((1, 1), State::Discarding);
    network.carry_out(1);
    network.deliver();
    network.tick(10);
    network.assert_tree();
}
