//! Ports where no bridge is.

use super::network::{Network, plain, settings};
use crate::stp::{
    instance::{Action, Instance},
    port::{PortSettings, State},
};

fn bridge(port: PortSettings) -> Instance {
    let mut bridge = Instance::new(settings(32768, 1));
    bridge.set_port(1, port);
    bridge
}

fn states(bridge: &mut Instance) -> Vec<State> {
    let actions = bridge.take_actions();
    actions
        .into_iter()
        .filter_map(|action| match action {
            Action::Set(1, state) => Some(state),
            _ => None,
        })
        .collect()
}

#[test]
fn an_edge_forwards_at_once() {
    let mut bridge = bridge(PortSettings {
        edge: true,
        ..plain()
    });
    bridge.set_enabled(1, true);
    assert_eq!(states(&mut bridge).last(), Some(&State::Forwarding));
    assert!(bridge.ports()[&1].edge);
    assert_eq!(
        bridge.changes(),
        0,
        "a station that comes changes no topology"
    );
}

/// Nobody answers for three seconds: it is an edge (17.25).
#[test]
fn an_edge_is_found_out() {
    let mut bridge = bridge(plain());
    bridge.set_enabled(1, true);
    bridge.tick();
    bridge.tick();
    assert!(states(&mut bridge).is_empty());
    bridge.tick();
    assert_eq!(states(&mut bridge).last(), Some(&State::Forwarding));
}

#[test]
fn one_that_is_none_waits() {
    let mut bridge = bridge(PortSettings {
        auto_edge: false,
        ..plain()
    });
    bridge.set_enabled(1, true);
    let mut seconds = 0;
    while bridge.ports()[&1].state != State::Forwarding {
        bridge.tick();
        seconds += 1;
        assert!(seconds < 60);
    }
    // 20 s before it takes part (`fdWhile` is MaxAge at first, 17.29.1), then a hello time in
    // each state.
    assert!((17..=34).contains(&seconds), "{seconds}");
}

#[test]
fn a_bridge_on_an_edge_makes_it_none() {
    let mut network = Network::default();
    let (a, b) = (network.bridge(0), network.bridge(4096));
    let first = network.link(a, b, 2000);
    let second = network.link(a, b, 2000);
    for port in [1, 2] {
        let edge = PortSettings {
            edge: true,
            ..plain()
        };
        network.bridges[a].set_port(port, edge);
    }
    network.set_up(first, true);
    network.set_up(second, true);
    network.tick(10);
    network.assert_tree();
    assert!(!network.bridges[a].ports()[&1].edge);
}

#[test]
fn an_edge_that_goes_down_is_found_out_again() {
    let mut bridge = bridge(plain());
    bridge.set_enabled(1, true);
    for _ in 0..5 {
        bridge.tick();
    }
    assert!(bridge.ports()[&1].edge);
    bridge.set_enabled(1, false);
    assert!(!bridge.ports()[&1].edge);
    assert_eq!(bridge.ports()[&1].state, State::Discarding);
    bridge.set_enabled(1, true);
    assert_eq!(bridge.ports()[&1].state, State::Discarding);
}
