//! A bridge with all its instances: which messages go where, and which port belongs to which.
//!
//! The common instance is for all VLANs that have none of their own. It speaks as IEEE 802.1D
//! says. A VLAN's own instance speaks as PVST+ and Rapid-PVST+ do on trunks, and as IEEE 802.1D
//! on access ports, where there is no other.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    bpdu::Bpdu,
    frame::{self, NoBpdu, Received},
    instance::{Action, BridgeSettings, HOLD_COUNT, Instance},
    memory::Memory,
    port::{PortSettings, State},
    vector::{BridgeId, Times},
};

/// Stands for the common instance where a VLAN is named.
pub const COMMON: u16 = 0;

/// What is set for a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its own address.
    pub address: [u8; 6],
    /// What it tells others to use if it is the root.
    pub times: Times,
    /// Its priority in each instance, by VLAN, [`COMMON`] among them: 0 to 61440 in steps of 4096.
    pub instances: BTreeMap<u16, u16>,
    /// Its ports, by the numbers that the cube gives them.
    pub ports: BTreeMap<u32, PortConfig>,
}

/// What is set for a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// Changes when the port becomes another one under the same number, or leads elsewhere.
    pub identity: u32,
    /// The sender's address of what it sends.
    pub address: [u8; 6],
    /// The VLANs it carries.
    pub carries: Carries,
    /// In all instances.
    pub settings: PortSettings,
    /// Where a VLAN's instance has others: cost and priority.
    pub of_vlans: BTreeMap<u16, (u32, u8)>,
    /// Whether a bridge at this port is a reason to disable it.
    pub guard: bool,
}

/// VLANs that a port carries, of those that have an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carries {
    /// One, whose frames have no tag.
    Access(u16),
    /// Several, told apart by tags.
    Trunk {
        /// The one without tags.
        native: Option<u16>,
        /// Those with an instance of their own.
        allowed: BTreeSet<u16>,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Send a frame from a port.
    Send(u32, Vec<u8>),
    /// What a port does with frames of an instance from now on.
    Set {
        /// The instance, by VLAN.
        vlan: u16,
        /// The port.
        port: u32,
        /// From now on.
        state: State,
    },
    /// Forget the stations behind a port, in all VLANs of an instance.
    Flush {
        /// The instance, by VLAN.
        vlan: u16,
        /// The port.
        port: u32,
    },
    /// A bridge was heard at a guarded port, which is disabled now.
    Guarded(u32),
}

/// Why a frame was passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// It is none to act upon.
    #[error(transparent)]
    NoBpdu(#[from] NoBpdu),
    /// It says another VLAN than the one it came in with.
    #[error("the BPDU was sent for VLAN {sent}, and came in on VLAN {came}")]
    OtherVlan {
        /// What it says.
        sent: u16,
        /// How it came.
        came: u16,
    },
    /// The port does not take part in the VLAN's instance.
    #[error("the BPDU is for VLAN {0}, which has no instance on this port")]
    NoInstance(u16),
    /// There is no such port.
    #[error("there is no such port")]
    NoPort,
}

/// A bridge.
#[derive(Debug)]
pub struct Bridge {
    config: Config,
    instances: BTreeMap<u16, Instance>,
    /// Whether each port's link works.
    up: BTreeMap<u32, bool>,
    /// Ports at which a bridge was heard that should not be there.
    guarded: BTreeSet<u32>,
    deeds: Vec<Deed>,
}

impl Bridge {
    /// A bridge that goes on where another engine left it, as far as that is remembered: by
    /// instance and port, for ports that are what they were. `guarded` are those at which a
    /// bridge was heard that should not be there.
    pub fn new(
        config: Config,
        up: &BTreeMap<u32, bool>,
        memories: &BTreeMap<(u16, u32), Memory>,
        guarded: BTreeSet<u32>,
    ) -> Self {
        let mut bridge = Self {
            instances: BTreeMap::new(),
            up: up.clone(),
            guarded,
            deeds: Vec::new(),
            config,
        };
        for (vlan, settings) in bridge.bridge_settings() {
            let mut instance = Instance::new(settings);
            let resumed: Vec<_> = bridge
                .members(vlan)
                .filter(|(port, _)| up.get(port).copied().unwrap_or(false))
                .filter(|(port, _)| !bridge.guarded.contains(port))
                .filter_map(|(port, settings)| {
                    Some((number(port), settings, memories.get(&(vlan, port))?))
                })
                .collect();
            instance.resume(resumed);
            bridge.instances.insert(vlan, instance);
        }
        bridge.arrange();
        bridge
    }

    /// Changes what is set. What is not different goes on undisturbed.
    pub fn configure(&mut self, config: Config) {
        if config == self.config {
            return;
        }
        let old = std::mem::replace(&mut self.config, config);
        let is_other = |port: &u32| {
            let (new, old) = (self.config.ports.get(port), old.ports.get(port));
            old.map(|old| old.identity) != new.map(|new| new.identity)
        };
        let others: Vec<u32> = old.ports.keys().copied().filter(is_other).collect();
        for port in others {
            for instance in self.instances.values_mut() {
                instance.remove_port(number(port));
            }
            self.up.remove(&port);
        }
        // Settings that change are one of the ways out of the guard.
        self.guarded
            .retain(|port| self.config.ports.get(port) == old.ports.get(port));
        self.arrange();
    }

    /// A port's link works, or no more.
    pub fn set_up(&mut self, port: u32, up: bool) {
        if self.up.insert(port, up) == Some(up) {
            return;
        }
        // A link that is plugged in again is the other way out of the guard.
        if !up {
            self.guarded.remove(&port);
        }
        self.arrange();
    }

    /// A frame came in at a port; `vlan` is the one it belongs to there.
    ///
    /// # Errors
    ///
    /// It was passed over.
    pub fn receive(&mut self, port: u32, vlan: u16, frame: &[u8]) -> Result<(), Ignored> {
        let config = self.config.ports.get(&port).ok_or(Ignored::NoPort)?;
        let received = frame::decode(frame)?;
        if config.guard {
            if self.guarded.insert(port) {
                self.deeds.push(Deed::Guarded(port));
                self.arrange();
            }
            return Ok(());
        }
        let (instance, bpdu) = match (received, &config.carries) {
            (Received::Common(bpdu), _) => (self.untagged(config), bpdu),
            (Received::OfVlan(Some(sent), _), _) if sent != vlan => {
                return Err(Ignored::OtherVlan { sent, came: vlan });
            }
            // A port that speaks as IEEE 802.1D hears that only.
            (Received::OfVlan(..), Carries::Access(_)) => return Err(Ignored::NoInstance(vlan)),
            (Received::OfVlan(_, bpdu), Carries::Trunk { .. }) => (vlan, bpdu),
        };
        if instance != COMMON && !self.takes_part(config, instance) {
            return Err(Ignored::NoInstance(instance));
        }
        self.hear(instance, port, bpdu);
        Ok(())
    }

    /// A second has passed.
    pub fn tick(&mut self) {
        for (vlan, instance) in &mut self.instances {
            instance.tick();
            collect(&self.config, *vlan, instance, &mut self.deeds);
        }
    }

    /// Takes out what is to be done, in order.
    pub fn take_deeds(&mut self) -> Vec<Deed> {
        std::mem::take(&mut self.deeds)
    }

    /// The instances, by VLAN.
    pub const fn instances(&self) -> &BTreeMap<u16, Instance> {
        &self.instances
    }

    /// What is set.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Whether a port is disabled because a bridge was heard there.
    pub fn is_guarded(&self, port: u32) -> bool {
        self.guarded.contains(&port)
    }

    fn hear(&mut self, vlan: u16, port: u32, bpdu: Bpdu) {
        if let Some(instance) = self.instances.get_mut(&vlan) {
            instance.receive(number(port), bpdu);
            collect(&self.config, vlan, instance, &mut self.deeds);
        }
    }

    /// Makes instances and their ports what is set, and what the links are.
    fn arrange(&mut self) {
        let wanted = self.bridge_settings();
        self.instances.retain(|vlan, _| wanted.contains_key(vlan));
        for (vlan, settings) in wanted {
            let members: BTreeMap<u32, PortSettings> = self.members(vlan).collect();
            let instance = self
                .instances
                .entry(vlan)
                .or_insert_with(|| Instance::new(settings));
            instance.set(settings);
            for port in instance.ports().into_keys() {
                if !members.contains_key(&port_of(port)) {
                    instance.remove_port(port);
                }
            }
            for (port, settings) in members {
                let up = self.up.get(&port).copied().unwrap_or(false);
                instance.set_port(number(port), settings);
                instance.set_enabled(number(port), up && !self.guarded.contains(&port));
            }
            collect(&self.config, vlan, instance, &mut self.deeds);
        }
    }

    fn bridge_settings(&self) -> BTreeMap<u16, BridgeSettings> {
        let settings = |(vlan, priority): (&u16, &u16)| {
            let id = BridgeId {
                // The VLAN is the extension of the system's identifier (9.2.5).
                priority: priority & 0xf000 | vlan,
                address: self.config.address,
            };
            let settings = BridgeSettings {
                id,
                times: self.config.times,
                hold_count: HOLD_COUNT,
                rstp: true,
            };
            (*vlan, settings)
        };
        self.config.instances.iter().map(settings).collect()
    }

    /// The ports that take part in an instance.
    fn members(&self, vlan: u16) -> impl Iterator<Item = (u32, PortSettings)> {
        self.config
            .ports
            .iter()
            .filter(move |(_, port)| self.takes_part(port, vlan))
            .map(move |(number, port)| {
                let mut settings = port.settings;
                if let Some((cost, priority)) = port.of_vlans.get(&vlan) {
                    settings.cost = *cost;
                    settings.priority = *priority;
                }
                (*number, settings)
            })
    }

    /// A trunk always takes part in the common instance: bridges that know no other must see it.
    fn takes_part(&self, port: &PortConfig, vlan: u16) -> bool {
        match &port.carries {
            Carries::Access(_) => self.untagged(port) == vlan,
            Carries::Trunk { allowed, .. } => vlan == COMMON || allowed.contains(&vlan),
        }
    }

    /// The instance whose messages have the format of IEEE 802.1D on a port.
    fn untagged(&self, port: &PortConfig) -> u16 {
        match port.carries {
            Carries::Access(vlan) if self.config.instances.contains_key(&vlan) => vlan,
            Carries::Access(_) | Carries::Trunk { .. } => COMMON,
        }
    }
}

/// Turns what an instance wants into what is to be done.
fn collect(config: &Config, vlan: u16, instance: &mut Instance, deeds: &mut Vec<Deed>) {
    for action in instance.take_actions() {
        deeds.push(match action {
            Action::Send(port, bpdu) => {
                let port = port_of(port);
                let Some(settings) = config.ports.get(&port) else {
                    continue;
                };
                let frame = match &settings.carries {
                    Carries::Trunk { native, .. } if vlan != COMMON => {
                        let tagged = *native != Some(vlan);
                        frame::encode_for_vlan(settings.address, vlan, tagged, &bpdu)
                    }
                    Carries::Access(_) | Carries::Trunk { .. } => {
                        frame::encode(settings.address, &bpdu)
                    }
                };
                Deed::Send(port, frame)
            }
            Action::Set(port, state) => Deed::Set {
                vlan,
                port: port_of(port),
                state,
            },
            Action::Flush(port) => Deed::Flush {
                vlan,
                port: port_of(port),
            },
        });
    }
}

/// The protocol counts from one.
pub const fn number(port: u32) -> u16 {
    port as u16 + 1
}

/// The cube counts from zero.
pub const fn port_of(number: u16) -> u32 {
    number as u32 - 1
}

#[cfg(test)]
mod tests;
