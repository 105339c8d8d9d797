//! One bridge's spanning tree: the engine, its tables, and the links of its ports.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
    time::{Duration, Instant},
};

use ebpf_abi::stp::{
    STP_DISCARDING, STP_INSTANCES, STP_IS_AGREED, STP_IS_DOWN, STP_IS_EDGE, STP_IS_GUARDED,
    STP_IS_RAPID, STP_IS_RECEIVED, StpBridge, StpKey, StpRole, StpState, StpVector,
};
use topology_schema::{InterfaceName, Name};

use self::published::{code, role_code};
use crate::{
    kernel::{
        Result,
        linux::{
            netlink::{LinkInfo, Netlink},
            trees::TreeTables,
        },
    },
    stp::{
        bridge::{Bridge, COMMON, Config, Deed, number, port_of},
        instance::Instance,
        port::{Role, State},
    },
};

mod published;

/// The protocol's timers count seconds (17.22).
const SECOND: Duration = Duration::from_secs(1);
/// How often messages are read before others have their turn.
const TURNS: usize = 16;

/// The interfaces of the host that work.
#[derive(Debug, Default)]
pub struct Links(BTreeSet<String>);

impl Links {
    /// Those of a list.
    pub fn of(links: &[LinkInfo]) -> Self {
        let works = |link: &&LinkInfo| link.up && link.carrier;
        Self(
            links
                .iter()
                .filter(works)
                .map(|link| link.name.clone())
                .collect(),
        )
    }

    /// Whether a port is up that depends on an interface; one that depends on none always is.
    fn works(&self, interface: Option<&InterfaceName>) -> bool {
        interface.is_none_or(|interface| self.0.contains(interface.as_str()))
    }

    /// The speeds of ports, in Mb/s, as far as they have one.
    pub fn speeds(&self, ports: &BTreeMap<u32, Option<InterfaceName>>) -> BTreeMap<u32, u32> {
        let Ok(mut host) = Netlink::host() else {
            return BTreeMap::new();
        };
        let mut speed = |interface: &Option<InterfaceName>| {
            host.speed(interface.as_ref()?.as_str()).ok().flatten()
        };
        ports
            .iter()
            .filter_map(|(port, interface)| Some((*port, speed(interface)?)))
            .collect()
    }
}

/// A bridge that takes part.
pub struct Tree {
    tables: TreeTables,
    name: String,
    bridge: Bridge,
    interfaces: BTreeMap<u32, Option<InterfaceName>>,
    /// The number of each instance in the tables, by VLAN.
    numbers: BTreeMap<u16, u32>,
    published: (BTreeMap<StpKey, StpBridge>, BTreeMap<StpKey, StpRole>),
    tick: Instant,
}

impl Tree {
    /// Begins, where another engine ended.
    pub fn start(
        bpffs: &Path,
        (topology, cube): &(Name, Name),
        config: Config,
        interfaces: BTreeMap<u32, Option<InterfaceName>>,
        links: &Links,
    ) -> Result<Self> {
        let tables = TreeTables::open(bpffs, topology, cube)?;
        let up = up(&interfaces, links);
        let roles = tables.roles();
        let memories = published::memories(&config, &roles);
        let guarded = published::guarded(&config, &roles);
        let mut tree = Self {
            numbers: tables.instances(),
            bridge: Bridge::new(config, &up, &memories, guarded),
            name: format!("cube/{cube}"),
            interfaces,
            published: Default::default(),
            tick: Instant::now() + SECOND,
            tables,
        };
        tree.number_instances()?;
        tree.carry_out()?;
        Ok(tree)
    }

    /// Goes on with other settings.
    pub fn configure(
        &mut self,
        config: Config,
        interfaces: BTreeMap<u32, Option<InterfaceName>>,
        links: &Links,
    ) -> Result<()> {
        self.interfaces = interfaces;
        self.bridge.configure(config);
        self.number_instances()?;
        self.set_links(links)?;
        self.carry_out()
    }

    /// Takes in which links work.
    pub fn set_links(&mut self, links: &Links) -> Result<()> {
        for (port, up) in up(&self.interfaces, links) {
            self.bridge.set_up(port, up);
        }
        self.carry_out()
    }

    /// False once the bridge has other tables, or is gone.
    pub fn is_current(&self) -> bool {
        self.tables.is_current()
    }

    /// Asks for messages for a time.
    pub fn renew(&mut self, time: Duration) -> Result<()> {
        self.tables.close_unused();
        let until = self.tables.now() + time.as_nanos() as u64;
        self.tables.listen(until)
    }

    /// Takes in what was received, and the time.
    pub fn turn(&mut self) -> Result<()> {
        for _ in 0..TURNS {
            let mut received = Vec::new();
            self.tables
                .read(|port, vlan, frame| received.push((port, vlan, frame.to_owned())));
            let mut ticked = false;
            if self.tick <= Instant::now() {
                // One that comes late is not made up for: nobody was deaf that long on purpose.
                self.tick = (self.tick + SECOND).max(Instant::now());
                self.bridge.tick();
                ticked = true;
            }
            if received.is_empty() && !ticked {
                break;
            }
            for (port, vlan, frame) in received {
                if let Err(ignored) = self.bridge.receive(port, vlan, &frame) {
                    tracing::debug!("{}, port {port}: {ignored}", self.name);
                }
            }
            self.carry_out()?;
        }
        Ok(())
    }

    /// How long there is nothing to do.
    pub fn pause(&self) -> Duration {
        self.tick.saturating_duration_since(Instant::now())
    }

    /// Readable when there is a message.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.tables.as_fd()
    }

    /// Says that nobody listens any more.
    pub fn end(&mut self) {
        // What cannot be told ends by itself.
        let _alone = self.tables.listen(0);
    }

    /// Gives each instance a number in the tables. What was there before under a number is void
    /// before a VLAN follows it.
    fn number_instances(&mut self) -> Result<()> {
        let wanted: BTreeSet<u16> = self.bridge.instances().keys().copied().collect();
        let gone: Vec<u16> = self
            .numbers
            .keys()
            .copied()
            .filter(|vlan| !wanted.contains(vlan))
            .collect();
        for vlan in gone {
            self.tables.set_instance(vlan, 0)?;
            self.numbers.remove(&vlan);
        }
        for vlan in wanted {
            if vlan == COMMON || self.numbers.contains_key(&vlan) {
                continue;
            }
            let free = |number: &u32| !self.numbers.values().any(|used| used == number);
            let Some(number) = (1..STP_INSTANCES).find(free) else {
                continue;
            };
            for port in self.interfaces.keys() {
                self.tables.set_state(*port, number, StpState::default())?;
            }
            self.numbers.insert(vlan, number);
            self.write_states(vlan)?;
            self.tables.set_instance(vlan, number)?;
        }
        self.bridge
            .instances()
            .keys()
            .try_for_each(|vlan| self.write_states(*vlan))
    }

    /// Writes what ports may do in an instance.
    fn write_states(&self, vlan: u16) -> Result<()> {
        let Some(instance) = self.bridge.instances().get(&vlan) else {
            return Ok(());
        };
        for (port, status) in instance.ports() {
            self.write_state(vlan, port_of(port), Some(status.state), None)?;
        }
        Ok(())
    }

    fn write_state(
        &self,
        vlan: u16,
        port: u32,
        state: Option<State>,
        flushed: Option<u64>,
    ) -> Result<()> {
        let Some(number) = self.number(vlan) else {
            return Ok(());
        };
        let Some(settings) = self.bridge.config().ports.get(&port) else {
            return Ok(());
        };
        let known = self.tables.state(port, number);
        let old = known.filter(|old| old.identity == settings.identity);
        let new = StpState {
            identity: settings.identity,
            state: state.map_or(old.map_or(STP_DISCARDING, |old| old.state), code),
            flushed: flushed.unwrap_or(old.map_or(0, |old| old.flushed)),
        };
        if known == Some(new) {
            return Ok(());
        }
        self.tables.set_state(port, number, new)
    }

    fn number(&self, vlan: u16) -> Option<u32> {
        if vlan == COMMON {
            return Some(0);
        }
        self.numbers.get(&vlan).copied()
    }

    /// Does what the engine wants done, in its order: a port stops before its neighbour hears that
    /// it may begin.
    fn carry_out(&mut self) -> Result<()> {
        let mut result = Ok(());
        for deed in self.bridge.take_deeds() {
            let done = match deed {
                Deed::Send(port, frame) => self.tables.send(port, &frame),
                Deed::Set { vlan, port, state } => self.write_state(vlan, port, Some(state), None),
                Deed::Flush { vlan, port } => {
                    let now = self.tables.now();
                    self.write_state(vlan, port, None, Some(now))
                }
                Deed::Guarded(port) => {
                    tracing::warn!(
                        "{}: port {port} is disabled, because a bridge was heard there",
                        self.name
                    );
                    Ok(())
                }
            };
            result = result.and(done);
        }
        result.and(self.publish())
    }

    fn publish(&mut self) -> Result<()> {
        let mut bridges = BTreeMap::new();
        let mut roles = BTreeMap::new();
        for (vlan, instance) in self.bridge.instances() {
            let key = |port: u32| StpKey {
                vlan: *vlan,
                port: port as u16,
            };
            bridges.insert(key(0), published::bridge(instance));
            for port in instance.ports().into_keys().map(port_of) {
                if let Some(role) = self.role(instance, port) {
                    roles.insert(key(port), role);
                }
            }
        }
        let news = (bridges, roles);
        if news != self.published {
            self.tables.publish(&news.0, &news.1)?;
            self.published = news;
        }
        Ok(())
    }

    fn role(&self, instance: &Instance, port: u32) -> Option<StpRole> {
        let status = *instance.ports().get(&number(port))?;
        let memory = instance.memory(number(port))?;
        let settings = self.bridge.config().ports.get(&port)?;
        let flags = [
            (memory.edge, STP_IS_EDGE),
            (memory.rstp, STP_IS_RAPID),
            (memory.received, STP_IS_RECEIVED),
            (memory.agree, STP_IS_AGREED),
            (self.bridge.is_guarded(port), STP_IS_GUARDED),
            (status.role == Role::Disabled, STP_IS_DOWN),
        ];
        let flags = flags.into_iter().filter(|(set, _)| *set);
        Some(StpRole {
            identity: settings.identity,
            cost: status.cost,
            role: role_code(status.role),
            flags: flags.fold(0, |flags, (_, flag)| flags | flag),
            designated: StpVector {
                root: memory.designated.root.bytes(),
                bridge: memory.designated.bridge.bytes(),
                cost: memory.designated.cost,
                port: memory.designated.port.0,
                pad: 0,
            },
            times: published::times(memory.times),
            id: status.id.0,
            state: code(status.state) as u16,
            pad: 0,
        })
    }
}

fn up(interfaces: &BTreeMap<u32, Option<InterfaceName>>, links: &Links) -> BTreeMap<u32, bool> {
    let up = |(port, interface): (&u32, &Option<InterfaceName>)| {
        (*port, links.works(interface.as_ref()))
    };
    interfaces.iter().map(up).collect()
}
