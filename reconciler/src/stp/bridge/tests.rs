//! Instances, ports and guards of one bridge.

use super::*;
use crate::stp::port::Role;

const A: u32 = 0;
const B: u32 = 1;

fn port(carries: Carries) -> PortConfig {
    PortConfig {
        identity: 1,
        address: [2, 0, 0, 0, 1, 0],
        carries,
        settings: PortSettings::default(),
        of_vlans: BTreeMap::new(),
        guard: false,
    }
}

fn trunk(native: Option<u16>, allowed: &[u16]) -> Carries {
    Carries::Trunk {
        native,
        allowed: allowed.iter().copied().collect(),
    }
}

/// A bridge with an instance for VLAN 10.
fn config(last_byte: u8, ports: impl IntoIterator<Item = PortConfig>) -> Config {
    Config {
        address: [2, 0, 0, 0, 0, last_byte],
        times: Times::default(),
        instances: BTreeMap::from([(COMMON, 32768), (10, 32768)]),
        ports: (0..).zip(ports).collect(),
    }
}

fn bridge(config: Config) -> Bridge {
    let up = config.ports.keys().map(|port| (*port, true)).collect();
    Bridge::new(config, &up, &BTreeMap::new(), BTreeSet::new())
}

fn frames(bridge: &mut Bridge, from: u32) -> Vec<Received> {
    let deeds = bridge.take_deeds();
    deeds
        .into_iter()
        .filter_map(|deed| match deed {
            Deed::Send(port, frame) if port == from => frame::decode(&frame).ok(),
            _ => None,
        })
        .collect()
}

#[test]
fn an_access_port_speaks_for_its_vlan_as_the_standard_says() {
    let mut bridge = bridge(config(
        1,
        [port(Carries::Access(10)), port(Carries::Access(20))],
    ));
    let of = |port: &PortConfig| port.carries.clone();
    assert_eq!(of(&bridge.config().ports[&A]), Carries::Access(10));
    let sent = bridge.take_deeds();
    for deed in sent {
        let Deed::Send(port, frame) = deed else {
            continue;
        };
        let Ok(Received::Common(Bpdu::Rst(message, _))) = frame::decode(&frame) else {
            panic!("{frame:?}");
        };
        let vlan = if port == A { 10 } else { 0 };
        assert_eq!(message.vector.root.priority, 32768 + vlan);
    }
    assert_eq!(bridge.instances()[&10].ports().len(), 1);
    assert_eq!(bridge.instances()[&COMMON].ports().len(), 1);
}

#[test]
fn a_trunk_speaks_for_each() {
    let mut bridge = bridge(config(
        1,
        [port(trunk(None, &[10])), port(trunk(None, &[]))],
    ));
    let sent = bridge.take_deeds();
    let to = |wanted: u32, group: [u8; 6]| {
        sent.iter()
            .filter(|deed| {
                matches!(deed, Deed::Send(port, frame) if *port == wanted && frame.starts_with(&group))
            })
            .count()
    };
    assert_eq!(to(A, frame::BRIDGE_GROUP), 1);
    assert_eq!(to(A, frame::PVST_GROUP), 1);
    assert_eq!(to(B, frame::BRIDGE_GROUP), 1);
    assert_eq!(to(B, frame::PVST_GROUP), 0);
    assert!(frames(&mut bridge, A).is_empty());
}

#[test]
fn messages_reach_their_instance() {
    let mut better = config(1, [port(trunk(None, &[10]))]);
    better.instances.insert(10, 4096);
    let mut better = bridge(better);
    let mut other = bridge(config(2, [port(trunk(None, &[10]))]));
    for deed in better.take_deeds() {
        if let Deed::Send(_, frame) = deed {
            let vlan = if frame.starts_with(&frame::PVST_GROUP) {
                10
            } else {
                1
            };
            other.receive(A, vlan, &frame).expect("received");
        }
    }
    assert_eq!(other.instances()[&10].root().0.priority, 4096 + 10);
    assert_eq!(other.instances()[&10].ports()[&1].role, Role::Root);
    assert_eq!(other.instances()[&COMMON].root().0.address[5], 1);
}

#[test]
fn messages_for_others_are_passed_over() {
    let bpdu = Bpdu::Tcn;
    let mut bridge = bridge(config(
        1,
        [port(trunk(Some(1), &[])), port(Carries::Access(10))],
    ));
    let for_vlan = |vlan| frame::encode_for_vlan([2, 0, 0, 0, 0, 9], vlan, true, &bpdu);
    assert_eq!(
        bridge.receive(A, 20, &for_vlan(10)),
        Err(Ignored::OtherVlan { sent: 10, came: 20 })
    );
    assert_eq!(
        bridge.receive(A, 10, &for_vlan(10)),
        Err(Ignored::NoInstance(10))
    );
    assert_eq!(
        bridge.receive(B, 10, &for_vlan(10)),
        Err(Ignored::NoInstance(10))
    );
    assert_eq!(bridge.receive(7, 10, &for_vlan(10)), Err(Ignored::NoPort));
}

#[test]
fn a_guarded_port_is_disabled_until_plugged_in_again() {
    let guarded = PortConfig {
        guard: true,
        settings: PortSettings {
            edge: true,
            ..PortSettings::default()
        },
        ..port(Carries::Access(1))
    };
    let mut bridge = bridge(config(1, [guarded]));
    let state = |bridge: &Bridge| bridge.instances()[&COMMON].ports()[&1].state;
    assert_eq!(state(&bridge), State::Forwarding);
    let frame = frame::encode([2, 0, 0, 0, 0, 9], &Bpdu::Tcn);
    bridge.take_deeds();
    bridge.receive(A, 1, &frame).expect("a BPDU");
    assert!(bridge.is_guarded(A));
    assert_eq!(state(&bridge), State::Discarding);
    let deeds = bridge.take_deeds();
    assert!(deeds.contains(&Deed::Guarded(A)));
    // Nothing but a BPDU is one.
    for _ in 0..100 {
        bridge.tick();
        bridge.receive(A, 1, &frame).expect("a BPDU");
    }
    assert!(frames(&mut bridge, A).is_empty());
    assert_eq!(state(&bridge), State::Discarding);
    bridge.set_up(A, false);
    bridge.set_up(A, true);
    assert!(!bridge.is_guarded(A));
    assert_eq!(state(&bridge), State::Forwarding);
    bridge.receive(A, 1, &frame).expect("a BPDU");
    assert!(bridge.is_guarded(A));
    let mut settings = bridge.config().clone();
    settings
        .ports
        .entry(A)
        .and_modify(|port| port.guard = false);
    bridge.configure(settings);
    assert_eq!(state(&bridge), State::Forwarding);
}

/// Another link under the same number is another port.
#[test]
fn a_port_that_leads_elsewhere_begins_anew() {
    let edge = PortConfig {
        settings: PortSettings {
            edge: true,
            ..PortSettings::default()
        },
        ..port(Carries::Access(1))
    };
    let mut bridge = bridge(config(1, [edge]));
    let mut settings = bridge.config().clone();
    settings.ports.entry(A).and_modify(|port| port.identity = 2);
    settings
        .ports
        .entry(A)
        .and_modify(|port| port.settings.edge = false);
    bridge.configure(settings);
    let status = bridge.instances()[&COMMON].ports()[&1];
    assert_eq!(
        (status.role, status.state),
        (Role::Disabled, State::Discarding)
    );
    bridge.set_up(A, true);
    let status = bridge.instances()[&COMMON].ports()[&1];
    assert_eq!(status.role, Role::Designated);
}

#[test]
fn instances_come_and_go() {
    let mut bridge = bridge(config(1, [port(trunk(None, &[10, 20]))]));
    let mut settings = bridge.config().clone();
    settings.instances.remove(&10);
    settings.instances.insert(20, 8192);
    bridge.configure(settings);
    let vlans: Vec<u16> = bridge.instances().keys().copied().collect();
    assert_eq!(vlans, [COMMON, 20]);
    assert_eq!(bridge.instances()[&20].root().0.priority, 8192 + 20);
}
