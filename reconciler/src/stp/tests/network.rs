//! Bridges and links; what one sends arrives at once, in order.

use std::collections::{BTreeMap, VecDeque};

use crate::stp::{
    bpdu::Bpdu,
    instance::{Action, BridgeSettings, HOLD_COUNT, Instance},
    port::{PortSettings, Role, State},
    vector::{BridgeId, Times},
};

/// A port of a bridge.
pub type End = (usize, u16);

#[derive(Clone, Debug)]
pub struct Link {
    pub ends: [End; 2],
    pub up: bool,
    /// Messages from the first end get lost.
    pub deaf: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Network {
    pub bridges: Vec<Instance>,
    pub links: Vec<Link>,
    pub states: BTreeMap<End, State>,
    pub flushes: Vec<End>,
    pub sent: Vec<(End, Bpdu)>,
    /// There may be loops for a moment.
    pub lenient: bool,
    on_the_way: VecDeque<(End, Bpdu)>,
}

pub fn settings(priority: u16, number: usize) -> BridgeSettings {
    BridgeSettings {
        id: BridgeId {
            priority,
            address: [2, 0, 0, 0, 0, number as u8],
        },
        times: Times::default(),
        hold_count: HOLD_COUNT,
        rstp: true,
    }
}

/// A port that is linked to a bridge, for tests in which time does not pass.
pub fn plain() -> PortSettings {
    PortSettings::default()
}

impl Network {
    pub fn bridge(&mut self, priority: u16) -> usize {
        let number = self.bridges.len();
        self.bridges.push(Instance::new(settings(priority, number)));
        number
    }

    /// Links the next free port of each; not up yet.
    pub fn link(&mut self, a: usize, b: usize, cost: u32) -> usize {
        let mut end = |bridge: usize| {
            let number = self.bridges[bridge].ports().len() as u16 + 1;
            let settings = PortSettings { cost, ..plain() };
            self.bridges[bridge].set_port(number, settings);
            (bridge, number)
        };
        let ends = [end(a), end(b)];
        self.links.push(Link {
            ends,
            up: false,
            deaf: false,
        });
        self.links.len() - 1
    }

    pub fn set_up(&mut self, link: usize, up: bool) {
        self.links[link].up = up;
        for (bridge, port) in self.links[link].ends {
            self.bridges[bridge].set_enabled(port, up);
            self.carry_out(bridge);
        }
        self.deliver();
    }

    pub fn all_up(&mut self) {
        for link in 0..self.links.len() {
            self.set_up(link, true);
        }
    }

    pub fn tick(&mut self, seconds: usize) {
        for _ in 0..seconds {
            for bridge in 0..self.bridges.len() {
                self.bridges[bridge].tick();
                self.carry_out(bridge);
            }
            self.deliver();
        }
    }

    /// Takes out and does what a bridge wants done.
    pub fn carry_out(&mut self, bridge: usize) {
        for action in self.bridges[bridge].take_actions() {
            match action {
                Action::Send(port, bpdu) => {
                    self.sent.push(((bridge, port), bpdu));
                    // As it is on the wire.
                    let bpdu = Bpdu::decode(&bpdu.encode()).expect("ours");
                    if let Some(to) = self.other((bridge, port)) {
                        self.on_the_way.push_back((to, bpdu));
                    }
                }
                Action::Set(port, state) => {
                    self.states.insert((bridge, port), state);
                    if !self.lenient {
                        self.assert_no_loop();
                    }
                }
                Action::Flush(port) => self.flushes.push((bridge, port)),
            }
        }
    }

    pub fn deliver(&mut self) {
        let mut messages = 0;
        while let Some(((bridge, port), bpdu)) = self.on_the_way.pop_front() {
            self.bridges[bridge].receive(port, bpdu);
            self.carry_out(bridge);
            messages += 1;
            assert!(messages < 100_000, "messages beget messages");
        }
    }

    fn other(&self, end: End) -> Option<End> {
        let link = self.links.iter().find(|link| link.ends.contains(&end))?;
        let [a, b] = link.ends;
        let lost = !link.up || (link.deaf && end == a);
        (!lost).then_some(if end == a { b } else { a })
    }

    pub fn state(&self, end: End) -> State {
        self.states.get(&end).copied().unwrap_or_default()
    }

    pub fn role(&self, (bridge, port): End) -> Role {
        self.bridges[bridge].ports()[&port].role
    }

    /// Links that let frames pass.
    pub fn active(&self) -> Vec<[usize; 2]> {
        let active = |link: &&Link| {
            link.up
                && link
                    .ends
                    .iter()
                    .all(|end| self.state(*end) == State::Forwarding)
        };
        self.links
            .iter()
            .filter(active)
            .map(|link| link.ends.map(|(bridge, _)| bridge))
            .collect()
    }

    /// At no time may a frame come back to where it has been.
    pub fn assert_no_loop(&self) {
        let mut groups = Groups::new(self.bridges.len());
        for [a, b] in self.active() {
            assert!(groups.join(a, b), "a loop: {:?}", self.active());
        }
    }

    /// What RSTP promises once it has settled: wherever there is a way there is one, there is no
    /// second one, and it is the cheapest to the best bridge.
    pub fn assert_tree(&self) {
        let mut linked = Groups::new(self.bridges.len());
        for link in self.links.iter().filter(|link| link.up) {
            let [(a, _), (b, _)] = link.ends;
            linked.join(a, b);
        }
        let mut active = Groups::new(self.bridges.len());
        for [a, b] in self.active() {
            assert!(active.join(a, b), "a loop: {:?}", self.active());
        }
        for (bridge, instance) in self.bridges.iter().enumerate() {
            let group = |other: &usize| linked.find(*other) == linked.find(bridge);
            let members: Vec<usize> = (0..self.bridges.len()).filter(group).collect();
            for other in &members {
                assert_eq!(active.find(*other), active.find(bridge), "cut off");
            }
            let root = members
                .iter()
                .min_by_key(|other| self.bridges[**other].settings().id)
                .copied()
                .expect("itself");
            let (id, cost) = instance.root();
            assert_eq!(id, self.bridges[root].settings().id, "root of {bridge}");
            assert_eq!(cost, self.distance(root, bridge), "cost of {bridge}");
            assert_eq!(instance.root_port().is_none(), root == bridge);
        }
        // Each link has one designated end.
        for link in self.links.iter().filter(|link| link.up) {
            let [a, b] = link.ends.map(|end| self.role(end) == Role::Designated);
            assert!(a != b, "{link:?}");
        }
    }

    /// Cost of the cheapest path (Bellman and Ford). Both ends of a link cost the same here.
    fn distance(&self, from: usize, to: usize) -> u32 {
        let mut distances = vec![u32::MAX; self.bridges.len()];
        distances[from] = 0;
        for _ in 0..self.bridges.len() {
            for link in self.links.iter().filter(|link| link.up) {
                let [(a, port), (b, _)] = link.ends;
                let cost = self.bridges[a].ports()[&port].cost;
                distances[b] = distances[b].min(distances[a].saturating_add(cost));
                distances[a] = distances[a].min(distances[b].saturating_add(cost));
            }
        }
        distances[to]
    }
}

/// Sets that grow together.
struct Groups(Vec<usize>);

impl Groups {
    fn new(count: usize) -> Self {
        Self((0..count).collect())
    }

    fn find(&self, mut member: usize) -> usize {
        while self.0[member] != member {
            member = self.0[member];
        }
        member
    }

    /// False if they were together already.
    fn join(&mut self, a: usize, b: usize) -> bool {
        let (a, b) = (self.find(a), self.find(b));
        self.0[a] = b;
        a != b
    }
}
