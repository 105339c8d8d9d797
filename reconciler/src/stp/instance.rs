//! One instance of the protocol on one bridge (IEEE 802.1D-2004, clause 17): its ports, what
//! happens to it, what it wants done.
//!
//! It has no clock and reaches nothing. Whoever owns it says what happened, then takes out what
//! is to be done.

use std::collections::BTreeMap;

use super::{
    bpdu::Bpdu,
    machine,
    memory::Memory,
    port::{Port, PortSettings, Role, State},
    vector::{BridgeId, PortId, Times, Vector},
};

/// What is set for a bridge in an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgeSettings {
    /// Who it is.
    pub id: BridgeId,
    /// `BridgeTimes` (17.18.4): what it tells others to use if it is the root.
    pub times: Times,
    /// Most messages in a second per port (`TxHoldCount`, 17.13.12), beside one each hello time.
    pub hold_count: u16,
    /// Whether it speaks RSTP (`ForceProtocolVersion` is 2, 17.13.4), or only STP.
    pub rstp: bool,
}

/// Messages that may follow one another at once (Table 17-1).
pub const HOLD_COUNT: u16 = 6;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a message from a port.
    Send(u16, Bpdu),
    /// What a port does with frames from now on.
    Set(u16, State),
    /// Forget the stations behind a port (17.11).
    Flush(u16),
}

/// A bridge in one instance.
#[derive(Clone, Debug)]
pub struct Instance {
    pub(super) settings: BridgeSettings,
    pub(super) ports: Vec<Port>,
    pub(super) root_priority: Vector,
    pub(super) root_port: Option<PortId>,
    pub(super) root_times: Times,
    pub(super) actions: Vec<Action>,
    /// Times at which the topology changed.
    pub(super) changes: u64,
}

/// A port as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortStatus {
    /// Its identifier.
    pub id: PortId,
    /// What it is for.
    pub role: Role,
    /// What it does with frames.
    pub state: State,
    /// Cost of the path through it.
    pub cost: u32,
    /// The best that was said on its link, by itself or by another.
    pub designated: Vector,
    /// It leads to no bridge.
    pub edge: bool,
    /// It speaks RSTP; if not, somebody there speaks only STP.
    pub rstp: bool,
}

impl Instance {
    /// A bridge without ports: it is the root.
    pub fn new(settings: BridgeSettings) -> Self {
        let mut instance = Self {
            settings,
            ports: Vec::new(),
            root_priority: Vector::default(),
            root_port: None,
            root_times: settings.times,
            actions: Vec::new(),
            changes: 0,
        };
        instance.select_again();
        instance
    }

    /// Changes what is set for the bridge (17.13).
    pub fn set(&mut self, settings: BridgeSettings) {
        if self.settings == settings {
            return;
        }
        let version_changed = self.settings.rstp != settings.rstp;
        self.settings = settings;
        for port in &mut self.ports {
            // As BEGIN: what was agreed upon in the other version is void.
            if version_changed {
                let mut fresh = Port::new(port.port_id.number(), port.settings, settings.rstp);
                fresh.learning = port.learning;
                fresh.forwarding = port.forwarding;
                fresh.port_enabled = port.port_enabled;
                *port = fresh;
            }
        }
        self.select_again();
        self.run();
    }

    /// Adds a port, or changes what is set for it. A new one is not up.
    pub fn set_port(&mut self, number: u16, settings: PortSettings) {
        let rstp = self.settings.rstp;
        match self.find(number) {
            Ok(at) if self.ports[at].settings == settings => return,
            Ok(at) => {
                let port = &mut self.ports[at];
                // Edge is what it is set to be until something else is found out (17.13.1).
                if port.settings.edge != settings.edge {
                    port.oper_edge = settings.edge;
                }
                port.settings = settings;
                port.port_id = PortId::new(settings.priority, number);
                port.reselect = true;
                port.selected = false;
            }
            Err(at) => self.ports.insert(at, Port::new(number, settings, rstp)),
        }
        self.run();
    }

    /// Removes a port. Nothing is to be done there any more.
    pub fn remove_port(&mut self, number: u16) {
        if let Ok(at) = self.find(number) {
            self.ports.remove(at);
            self.select_again();
            self.run();
        }
    }

    /// A port's link works, or no more (`portEnabled`, 17.19.18).
    pub fn set_enabled(&mut self, number: u16, enabled: bool) {
        if let Ok(at) = self.find(number)
            && self.ports[at].port_enabled != enabled
        {
            self.ports[at].port_enabled = enabled;
            self.run();
        }
    }

    /// A message came in at a port.
    pub fn receive(&mut self, number: u16, bpdu: Bpdu) {
        let Ok(at) = self.find(number) else { return };
        let port = &mut self.ports[at];
        // What was sent here and came back (9.3.4).
        let own = match bpdu {
            Bpdu::Config(message) | Bpdu::Rst(message, _) => {
                message.vector.bridge.address == self.settings.id.address
                    && message.vector.port.number() == port.port_id.number()
            }
            Bpdu::Tcn => false,
        };
        // A bridge that speaks only STP does not know the others.
        let unknown = !self.settings.rstp && matches!(bpdu, Bpdu::Rst(..));
        if own || unknown {
            return;
        }
        port.message = Some(bpdu);
        port.rcvd_bpdu = true;
        self.run();
    }

    /// A second has passed (17.22).
    pub fn tick(&mut self) {
        for port in &mut self.ports {
            machine::timers::tick(&mut port.timers);
        }
        self.run();
    }

    /// Takes out what is to be done, in order.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// What is set for the bridge.
    pub const fn settings(&self) -> &BridgeSettings {
        &self.settings
    }

    /// The way to the root: the root, its cost.
    pub const fn root(&self) -> (BridgeId, u32) {
        (self.root_priority.root, self.root_priority.cost)
    }

    /// The port that leads to the root; none on the root itself.
    pub fn root_port(&self) -> Option<u16> {
        self.root_port.map(PortId::number)
    }

    /// Times of the root.
    pub const fn root_times(&self) -> Times {
        self.root_times
    }

    /// Times at which the topology changed, as far as this bridge found out by itself.
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// True for as long as a change of the topology is being told (17.13 `tcWhile`).
    pub fn is_changing(&self) -> bool {
        self.ports.iter().any(|port| port.timers.tc_while > 0)
    }

    /// The ports, by number.
    pub fn ports(&self) -> BTreeMap<u16, PortStatus> {
        let status = |port: &Port| PortStatus {
            id: port.port_id,
            role: port.role,
            state: port.state(),
            cost: port.settings.cost,
            designated: port.port_priority,
            edge: port.oper_edge,
            rstp: port.send_rstp,
        };
        self.ports
            .iter()
            .map(|port| (port.port_id.number(), status(port)))
            .collect()
    }

    /// What a port has to remember to go on where it was.
    pub fn memory(&self, number: u16) -> Option<Memory> {
        self.find(number).ok().map(|at| Memory::of(&self.ports[at]))
    }

    /// Adds ports that are up and go on where another engine left them. All at once: with some
    /// of them the bridge would take itself for another one than it was.
    pub fn resume<'a>(&mut self, ports: impl IntoIterator<Item = (u16, PortSettings, &'a Memory)>) {
        for (number, settings, memory) in ports {
            if let Err(at) = self.find(number) {
                let port = memory.port(number, settings, self.settings);
                self.ports.insert(at, port);
            }
        }
        self.run();
    }

    fn find(&self, number: u16) -> Result<usize, usize> {
        self.ports
            .binary_search_by_key(&number, |port| port.port_id.number())
    }

    pub(super) fn act(&mut self, at: usize, action: impl FnOnce(u16) -> Action) {
        self.actions.push(action(self.ports[at].port_id.number()));
    }

    /// Chooses the root and the roles, whoever asked.
    fn select_again(&mut self) {
        for port in &mut self.ports {
            port.selected = false;
            port.reselect = true;
        }
        // Without ports nobody asks.
        machine::selection::update_roles(self);
    }

    /// Lets the machines go on until none has anything to do.
    fn run(&mut self) {
        // A circle would be an error of this program. One that ends is found by its tests; one
        // that does not would stop everything.
        for _ in 0..1000 {
            if !machine::round(self) {
                return;
            }
        }
        tracing::error!("spanning tree: the state machines do not come to rest");
    }
}
