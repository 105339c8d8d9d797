//! Changes of all kinds, one after the other, each by a run of `pcn`: two hundred, or a thousand with
//! `PCN_TEST_CHANGES=1000`.

use integration_tests::lab::{Lab, objects::Ids, run_test};
use serde_json::Value;

use super::{Load, Pair, apply_with, changes, spaces, stations};

/// Changes that are made, see [`changes`].
const CHANGES: usize = 200;
/// Kinds of changes.
const KINDS: usize = 13;
/// Packets a second, all streams together.
const RATE: u64 = 100_000;

/// What the changes toggle.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// The program of a bridge, by its constant.
    aging: bool,
    /// A transparent cube in a stack through which traffic passes.
    probe: bool,
    /// The order of a stack.
    turned: bool,
    /// The port at which a host is.
    port: bool,
    /// The ports between two bridges.
    trunk: bool,
    /// The bridge at which the router is.
    bridge: bool,
    /// A route that the traffic does not take.
    route: bool,
    /// The router that the traffic takes.
    path: bool,
    /// A static station and a static neighbour, both absent.
    entry: bool,
    /// An address to block that nobody has.
    source: bool,
    /// A port with a host.
    host: bool,
    /// The build of `pcn`: all programs are others.
    build: bool,
}

impl State {
    /// One kind after the other; what was turned on is turned off in the next round. The last one
    /// changes several cubes at once.
    fn change(&mut self, turn: usize) {
        let toggles: [fn(&mut Self); KINDS] = [
            |state| state.aging ^= true,
            |state| state.probe ^= true,
            |state| state.turned ^= true,
            |state| state.port ^= true,
            |state| state.trunk ^= true,
            |state| state.bridge ^= true,
            |state| state.route ^= true,
            |state| state.path ^= true,
            |state| state.entry ^= true,
            |state| state.source ^= true,
            |state| state.host ^= true,
            |state| state.build ^= true,
            |state| {
                state.aging ^= true;
                state.probe ^= true;
                state.trunk ^= true;
                state.path ^= true;
                state.source ^= true;
            },
        ];
        toggles[turn % KINDS](self);
    }

    /// Two hosts and two stations, from one side to the other across two bridges, a router, one of
    /// two parallel routers, and a third bridge.
    fn text(&self) -> String {
        let pick = |on: bool, yes: &'static str, no: &'static str| if on { yes } else { no };
        let aging = pick(self.aging, "200s", "300s");
        let probe = pick(self.probe, "probe", "");
        let order = pick(self.turned, "shield, count", "count, shield");
        let port = pick(self.port, "g", "h");
        let trunk = pick(self.trunk, "y", "x");
        let up = pick(self.bridge, "br1", "br2");
        let route = pick(self.route, ", { to: 10.9.0.0/16, via: 10.12.0.2 }", "");
        let (v4, v6) = match self.path {
            true => ("10.13.0.3", "fd00:13::3"),
            false => ("10.12.0.2", "fd00:12::2"),
        };
        let fdb = pick(self.entry, "{ mac: '02:00:00:00:00:99', port: h }", "");
        let neighbor = pick(
            self.entry,
            "{ address: 10.12.0.77, mac: '02:00:00:00:00:77', port: a }",
            "",
        );
        let source = pick(self.source, ", 203.0.113.0/24, '2001:db8:bad::/48'", "");
        let (space, link) = match self.host {
            true => (
                "    h3: { interfaces: { eth0: { addresses: [10.2.0.9/24] } } }\n",
                "    - [br3:h3, h3/eth0]\n",
            ),
            false => ("", ""),
        };
        format!(
            "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: {{ name: loss }}
spec:
  namespaces:
    h1:
      interfaces:
        eth0:
          addresses: [10.1.0.1/24, 'fd00:1::1/64']
          routes: [{{ to: default, via: 10.1.0.254 }}, {{ to: default, via: 'fd00:1::fe' }}]
    h2:
      interfaces:
        eth0:
          addresses: [10.2.0.1/24, 'fd00:2::1/64']
          routes: [{{ to: default, via: 10.2.0.252 }}, {{ to: default, via: 'fd00:2::fc' }}]
{space}  interfaces:
    wire1: {{ hook: xdp }}
    wire2: {{ hook: xdp }}
  cubes:
    br1:
      bridge:
        agingTime: {aging}
        ports:
          {port}: {{ through: [{probe}] }}
    br2:
      bridge:
        ports:
          {trunk}: {{ through: [{order}] }}
    br3: {{ bridge: {{ fdb: [{fdb}] }} }}
    r1:
      router:
        ports:
          lan: {{ addresses: [10.1.0.254/24, 'fd00:1::fe/64'] }}
          a: {{ addresses: [10.12.0.1/24, 'fd00:12::1/64'] }}
          b: {{ addresses: [10.13.0.1/24, 'fd00:13::1/64'] }}
        routes:
          [{{ to: 10.2.0.0/24, via: {v4} }}, {{ to: 'fd00:2::/64', via: '{v6}' }}{route}]
        neighbors: [{neighbor}]
    r2:
      router:
        ports:
          lan: {{ addresses: [10.2.0.252/24, 'fd00:2::fc/64'] }}
          a: {{ addresses: [10.12.0.2/24, 'fd00:12::2/64'] }}
        routes: [{{ to: 10.1.0.0/24, via: 10.12.0.1 }}, {{ to: 'fd00:1::/64', via: 'fd00:12::1' }}]
    r3:
      router:
        ports:
          lan: {{ addresses: [10.2.0.253/24, 'fd00:2::fd/64'] }}
          b: {{ addresses: [10.13.0.3/24, 'fd00:13::3/64'] }}
        routes: [{{ to: 10.1.0.0/24, via: 10.13.0.1 }}, {{ to: 'fd00:1::/64', via: 'fd00:13::1' }}]
    shield: {{ ddosMitigator: {{ sources: [198.51.100.0/24{source}] }} }}
    count: {{ helloTransparent: {{}} }}
    probe: {{ helloTransparent: {{}} }}
  links:
    - [br1:{port}, h1/eth0]
    - [br2:s, wire1]
    - [br1:{trunk}, br2:{trunk}]
    - [{up}:r, r1:lan]
    - [r1:a, r2:a]
    - [r1:b, r3:b]
    - [r2:lan, br3:r2]
    - [r3:lan, br3:r3]
    - [br3:h, h2/eth0]
    - [br3:s, wire2]
{link}"
        )
    }
}

/// No program is the one that it was.
fn assert_replaced(before: &Ids, after: &Ids) {
    let same: Vec<_> = before
        .iter()
        .filter(|(path, id)| after.get(*path) == Some(id))
        .collect();
    assert!(
        !before.is_empty() && same.is_empty(),
        "not replaced: {same:?}"
    );
}

#[test]
fn a_thousand_changes() {
    run_test(|lab| {
        let (s1, s2) = stations(
            &["10.1.0.3/24", "fd00:1::3/64"],
            &["10.2.0.3/24", "fd00:2::3/64"],
        );
        for (station, v4, v6) in [
            (&s1, "10.1.0.254", "fd00:1::fe"),
            (&s2, "10.2.0.252", "fd00:2::fc"),
        ] {
            station
                .run(&format!("ip route add default via {v4}"))
                .expect(0);
            station
                .run(&format!("ip -6 route add default via {v6}"))
                .expect(0);
        }
        let builds = [lab.build(), lab.other_build()];
        let mut state = State::default();
        // All neighbours on both paths are known before.
        lab.apply(
            &State {
                path: true,
                ..state
            }
            .text(),
        );
        let (own, h1, h2) = (lab.space(""), lab.space("h1"), lab.space("h2"));
        let pairs = [
            Pair {
                name: "tc",
                left: &h1,
                right: &h2,
                addresses: [("10.1.0.1", "10.2.0.1"), ("fd00:1::1", "fd00:2::1")],
            },
            Pair {
                name: "xdp",
                left: &s1,
                right: &s2,
                addresses: [("10.1.0.3", "10.2.0.3"), ("fd00:1::3", "fd00:2::3")],
            },
        ];
        pairs.iter().for_each(Pair::meet);
        lab.apply(&state.text());
        pairs.iter().for_each(Pair::meet);
        let ways: Vec<_> = pairs.iter().flat_map(Pair::ways).collect();
        let mut load = Load::start(&ways, spaces(&own, [&h1, &h2, &s1, &s2]), RATE);
        let mut last = learned(lab);
        let changes = changes(CHANGES);
        for turn in 0..changes {
            let before = (state.build, lab.programs());
            state.change(turn);
            load.mark(format!("change {turn}, kind {}", turn % KINDS));
            apply_with(lab, &builds[usize::from(state.build)], &state.text());
            if state.build != before.0 {
                assert_replaced(&before.1, &lab.programs());
            }
            if turn % 100 == 99 {
                let now = learned(lab);
                assert_kept(&last, &now);
                last = now;
            }
        }
        load.end(changes, &[62]).assert_nothing_lost();
        let path = lab.file("topology.yaml", &state.text());
        let plan = lab.run_build(
            &builds[usize::from(state.build)],
            &format!("plan -f {path}"),
        );
        assert_eq!(plan.stdout, "No changes.\n", "{plan}");
    });
}

/// Counters and what was learned, of cubes that are there in all states.
struct Learned {
    /// Packets by place.
    packets: Vec<(&'static str, u64)>,
    /// Stations of the bridge that no change touches, and where they are.
    stations: Vec<(String, String)>,
    /// Neighbours that the router with two ways has learned.
    neighbors: Vec<(String, String)>,
}

fn learned(lab: &Lab) -> Learned {
    let show = lab.show("loss");
    let packets = [
        "/cubes/br3/ports/h/rx/packets",
        "/cubes/br3/ports/h/tx/packets",
        "/cubes/br3/ports/s/rx/packets",
        "/cubes/r1/ports/lan/rx/packets",
        "/cubes/r1/ports/lan/tx/packets",
        "/cubes/r2/ports/lan/tx/packets",
        "/cubes/r2/ports/a/rx/packets",
    ]
    .map(|place| {
        let count = show.pointer(place).and_then(Value::as_u64);
        (place, count.unwrap_or_else(|| panic!("{place}: {show}")))
    });
    let pairs = |place: &str, key: &str, value: &str| {
        let list = show.pointer(place).and_then(Value::as_array);
        // What the file says comes and goes with it.
        let mut pairs: Vec<_> = list
            .unwrap_or_else(|| panic!("{place}: {show}"))
            .iter()
            .filter(|entry| entry["type"] != "static" && entry["state"] != "static")
            .map(|entry| (entry[key].to_string(), entry[value].to_string()))
            .collect();
        pairs.sort();
        pairs
    };
    // Without the one that comes and goes, and what the file says.
    let mut stations = pairs("/cubes/br3/fdb", "mac", "port");
    stations
        .retain(|(mac, port)| port != "\"h3\"" && !port.contains('#') && !mac.contains("00:00:99"));
    Learned {
        packets: packets.to_vec(),
        stations,
        neighbors: pairs("/cubes/r1/neighbors", "address", "mac"),
    }
}

/// Counters grow; what was known is still known.
#[track_caller]
fn assert_kept(before: &Learned, after: &Learned) {
    for (before, after) in before.packets.iter().zip(&after.packets) {
        assert!(after.1 > before.1, "{before:?}, then {after:?}");
    }
    for (before, after) in [
        (&before.stations, &after.stations),
        (&before.neighbors, &after.neighbors),
    ] {
        let gone: Vec<_> = before
            .iter()
            .filter(|entry| !after.contains(entry))
            .collect();
        assert!(gone.is_empty(), "{gone:?} of {before:?}, left {after:?}");
    }
}
