//! `bridge`: random frames through random VLANs, against a model that shares nothing with the data
//! plane: bytes in, ports and bytes out, as IEEE 802.1Q says it.

use std::collections::{BTreeMap, BTreeSet};

use ebpf_abi::{
    bridge::{FEATURE_VLANS, PORT_VLAN_TAGGED, PORT_VLAN_UNAWARE, PortVlans, Settings},
    counters::{Counters, DropReason},
    port::PORT_ISOLATED,
};
use integration_tests::{
    clock::SECOND,
    cube::{Cube, Globals, Kind},
    private_net, require,
    test_run::{Gso, Hook, Run, Verdict},
};
use proptest::{
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};

const PORTS: u32 = 6;
/// Bridges; each gets a row of frames on both hooks.
const BRIDGES: u32 = 60;
const VLANS: [u16; 5] = [1, 2, 63, 64, 4094];

type Mac = [u8; 6];

/// A port, as a topology would have it.
#[derive(Clone, Debug)]
struct Port {
    vlans: Vlans,
    isolated: bool,
}

#[derive(Clone, Debug)]
enum Vlans {
    Access(u16),
    Trunk(BTreeSet<u16>, Option<u16>),
    Neither,
}

/// A frame to send.
#[derive(Clone, Debug)]
struct Frame {
    port: u32,
    to: Mac,
    from: Mac,
    /// Type and content, from the outside in.
    tags: Vec<(u16, u16)>,
}

fn ports() -> impl Strategy<Value = Vec<Port>> {
    let vlan = || select(VLANS.to_vec());
    let vlans = prop_oneof![
        3 => vlan().prop_map(Vlans::Access),
        5 => (prop::collection::btree_set(vlan(), 0..5), prop::option::of(vlan()))
            .prop_map(|(tagged, native)| Vlans::Trunk(tagged, native)),
        1 => Just(Vlans::Neither),
    ];
    let port =
        (vlans, prop::bool::weighted(0.2)).prop_map(|(vlans, isolated)| Port { vlans, isolated });
    prop::collection::vec(port, PORTS as usize)
}

fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let station = || (0..4u8).prop_map(|last| [2, 0, 0, 0, 0, last]);
    let to = prop_oneof![
        6 => station(),
        1 => Just([0xff; 6]),
        1 => Just([1, 0, 0x5e, 1, 2, 3]),
    ];
    let id = prop_oneof![8 => select(VLANS.to_vec()), 1 => Just(0u16), 1 => select(vec![3, 4095])];
    let tag = (
        prop_oneof![6 => Just(0x8100u16), 1 => Just(0x88a8)],
        (id, 0..16u16).prop_map(|(id, priority)| priority << 12 | id),
    );
    let tags = prop_oneof![
        4 => Just(Vec::new()),
        5 => prop::collection::vec(tag.clone(), 1),
        1 => prop::collection::vec(tag, 2),
    ];
    let frame = (0..PORTS, to, station(), tags).prop_map(|(port, to, from, tags)| Frame {
        port,
        to,
        from,
        tags,
    });
    prop::collection::vec(frame, 1..60)
}

impl Frame {
    fn bytes(&self) -> Vec<u8> {
        bytes(self, &self.tags)
    }
}

fn bytes(frame: &Frame, tags: &[(u16, u16)]) -> Vec<u8> {
    let mut bytes = [frame.to, frame.from].concat();
    for (kind, control) in tags {
        bytes.extend(kind.to_be_bytes());
        bytes.extend(control.to_be_bytes());
    }
    bytes.extend(0x88b5u16.to_be_bytes());
    bytes.extend((0..50).map(|i| i as u8));
    bytes
}

/// A frame's VLAN, its priority, and the tags it carries without the one that is the bridge's.
type Classified = (u16, u16, Vec<(u16, u16)>);

/// What the model says of a frame.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Dropped(DropReason),
    /// To one port, as these bytes.
    Sent(u32, Vec<u8>),
    /// Copied to these.
    Flooded(BTreeSet<u32>),
}

/// The bridge as it should be.
struct Model {
    ports: Vec<Port>,
    stations: BTreeMap<(u16, Mac), u32>,
}

impl Model {
    /// What a frame is, if its port takes it.
    fn classify(&self, frame: &Frame) -> Option<Classified> {
        let port = &self.ports[frame.port as usize];
        if matches!(port.vlans, Vlans::Neither) {
            return Some((1, 0, frame.tags.clone()));
        }
        let (id, priority, rest) = match frame.tags.split_first() {
            Some(((0x8100, control), rest)) => (control & 0xfff, control & 0xf000, rest.to_vec()),
            _ => (0, 0, frame.tags.clone()),
        };
        let vlan = match (&port.vlans, id) {
            (Vlans::Access(access), 0) => Some(*access),
            (Vlans::Access(_), _) => None,
            (Vlans::Trunk(_, native), 0) => *native,
            (Vlans::Trunk(tagged, native), id) => {
                (tagged.contains(&id) || *native == Some(id)).then_some(id)
            }
            (Vlans::Neither, _) => unreachable!(),
        };
        vlan.map(|vlan| (vlan, priority, rest))
    }

    /// The tags with which a frame leaves; `None` if it does not.
    fn leaving(
        &self,
        port: u32,
        (vlan, priority, carried): &Classified,
    ) -> Option<Vec<(u16, u16)>> {
        let mut with_tag = vec![(0x8100, priority | vlan)];
        with_tag.extend(carried);
        match &self.ports[port as usize].vlans {
            Vlans::Access(access) => (access == vlan).then(|| carried.clone()),
            Vlans::Neither => (*vlan == 1).then(|| carried.clone()),
            Vlans::Trunk(_, Some(native)) if native == vlan => {
                let hops = carried.first().is_some_and(|(kind, _)| *kind == 0x8100);
                (!hops).then(|| carried.clone())
            }
            Vlans::Trunk(tagged, _) => tagged.contains(vlan).then_some(with_tag),
        }
    }

    fn receive(&mut self, frame: &Frame) -> Fate {
        let Some(classified) = self.classify(frame) else {
            return Fate::Dropped(DropReason::VlanNotAllowed);
        };
        let vlan = classified.0;
        self.stations.insert((vlan, frame.from), frame.port);
        let isolated = |port: u32| {
            self.ports[frame.port as usize].isolated && self.ports[port as usize].isolated
        };
        match self.stations.get(&(vlan, frame.to)) {
            Some(port) if *port == frame.port => Fate::Dropped(DropReason::SamePort),
            Some(port) if isolated(*port) => Fate::Dropped(DropReason::Isolated),
            Some(port) => match self.leaving(*port, &classified) {
                Some(tags) => Fate::Sent(*port, bytes(frame, &tags)),
                None => Fate::Dropped(DropReason::VlanNotAllowed),
            },
            None => Fate::Flooded(
                (0..PORTS)
                    .filter(|port| *port != frame.port && !isolated(*port))
                    .filter(|port| self.leaving(*port, &classified).is_some())
                    .collect(),
            ),
        }
    }
}

fn configure(cube: &Cube, ports: &[Port]) {
    cube.link_ports(0..PORTS);
    cube.write_banked("flood", 0, PORTS);
    for (index, port) in (0..).zip(ports) {
        cube.write_banked("flood", index + 1, index);
        cube.change_port(index, |entry| {
            entry.handover_ifindex = private_net::LOOPBACK;
            if port.isolated {
                entry.flags |= PORT_ISOLATED;
            }
        });
        let mut vlans = PortVlans::NONE;
        match &port.vlans {
            Vlans::Access(access) => vlans.untagged = *access,
            Vlans::Neither => {
                vlans.untagged = 1;
                vlans.flags = PORT_VLAN_UNAWARE;
            }
            Vlans::Trunk(tagged, native) => {
                vlans.flags = PORT_VLAN_TAGGED;
                vlans.untagged = native.unwrap_or(0);
                tagged.iter().for_each(|vlan| vlans.add(*vlan));
            }
        }
        if vlans.untagged != 0 {
            vlans.add(vlans.untagged);
        }
        cube.write_banked("vlans", index, vlans);
    }
}

fn check(cube: &Cube, frame: &Frame, fate: &Fate) -> Result<(), String> {
    let before = cube.counters(PORTS);
    let run = cube.run(frame.port, &frame.bytes(), Gso::default());
    let after = cube.counters(PORTS);
    let difference =
        |count: fn(&Counters) -> u64, port: usize| count(&after[port]) - count(&before[port]);
    let sent: BTreeSet<u32> = (0..PORTS)
        .filter(|port| difference(|counters| counters.tx_packets, *port as usize) == 1)
        .collect();
    let input = frame.port as usize;
    let drops: Vec<DropReason> = DropReason::ALL
        .iter()
        .copied()
        .filter(|reason| {
            after[input].drops[*reason as usize] > before[input].drops[*reason as usize]
        })
        .collect();
    let received = difference(|counters| counters.rx_packets, input);
    let Run {
        verdict, packet, ..
    } = &run;
    let xdp = cube.hook == Hook::Xdp;
    let right = match fate {
        Fate::Dropped(reason) => {
            *verdict == Verdict::Drop && drops == [*reason] && sent.is_empty() && received == 1
        }
        // Where it goes is counted; what the kernel keeps outside of the packet is seen elsewhere.
        Fate::Sent(port, bytes) => {
            *verdict == Verdict::Redirect
                && drops.is_empty()
                && sent == [*port].into()
                && received == 1
                && (!xdp || packet == bytes)
        }
        Fate::Flooded(_) if xdp => {
            *verdict == Verdict::Redirect && received == 0 && *packet == frame.bytes()
        }
        Fate::Flooded(ports) => {
            *verdict == Verdict::Drop && drops.is_empty() && sent == *ports && received == 1
        }
    };
    if right {
        return Ok(());
    }
    Err(format!(
        "on {:?}: {frame:?}\nexpected {fate:02x?}\ngot sent {sent:?}, dropped {drops:?}, received {received}, {run:02x?}",
        cube.hook
    ))
}

#[test]
fn frames_go_where_the_model_says() {
    if !require::root() {
        return;
    }
    private_net::run(|_| {
        let settings = Settings {
            aging_time: 3600 * SECOND,
            features: FEATURE_VLANS,
        };
        let globals = Globals::from([(
            "SETTINGS".to_owned(),
            bytemuck::bytes_of(&settings).to_vec(),
        )]);
        let kind = Kind::parse("bridge");
        let mut runner = TestRunner::new(Config {
            cases: BRIDGES,
            failure_persistence: None,
            ..Config::default()
        });
        let result = runner.run(&(ports(), frames()), |(ports, frames)| {
            for (hook, outside) in [(Hook::Tc, false), (Hook::Tc, true), (Hook::Xdp, false)] {
                let mut cube = kind.load(hook, &globals, &BTreeMap::new());
                cube.tags_outside = outside;
                configure(&cube, &ports);
                let mut model = Model {
                    ports: ports.clone(),
                    stations: BTreeMap::new(),
                };
                for frame in &frames {
                    let fate = model.receive(frame);
                    check(&cube, frame, &fate)
                        .map_err(|problem| TestCaseError::fail(format!("{problem}\n{ports:?}")))?;
                }
            }
            Ok(())
        });
        if let Err(error) = result {
            panic!("{error}");
        }
    });
}
