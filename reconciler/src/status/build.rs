//! Puts a [`Status`] together.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ebpf_abi::{chain::Direction, transparent::counter_index};
use topology_schema::{Endpoint, InterfaceName, Name, ValidTopology};

use super::{
    Attachment, Condition, Cube, Interface, Namespace, NamespaceInterface, Port, State, Status,
    Table, counters,
    reading::{Reading, patiently},
    tables::CubeTables,
};
use crate::{
    address::Address,
    allocation::{Allocation, stacks},
    cli::FORMAT_VERSION,
    cube::driver_for,
    graph::TopologyGraph,
    journal,
    kernel::{self, Kernel},
    reconcile,
    record::Record,
    resource::PinPath,
};

/// What runs of the kernel's topology; `None` if it was not applied.
pub fn status(kernel: &mut dyn Kernel) -> kernel::Result<Option<Status>> {
    patiently(|| build(kernel, true))
}

/// The same without lists that may be long, so faster.
pub fn overview(kernel: &mut dyn Kernel) -> kernel::Result<Option<Status>> {
    patiently(|| build(kernel, false))
}

fn build(kernel: &mut dyn Kernel, lists: bool) -> kernel::Result<Option<Status>> {
    let Some(record) = kernel.record()? else {
        return Ok(None);
    };
    reconcile::check_layout(&record)?;
    let Some(topology) = reconcile::valid(&record) else {
        return Err(kernel::Error::Call(format!(
            "topology {} was applied by pcn {}, whose rules differ; apply its file again",
            record.topology.metadata.name, record.pcn_version
        )));
    };
    let graph = TopologyGraph::new(&topology);
    let reading = Reading::new(kernel, &graph, &record)?;
    let mut builder = Builder {
        kernel,
        topology: &topology,
        graph: &graph,
        record: &record,
        reading,
        lists,
    };
    let cubes = topology
        .topology()
        .spec
        .cubes
        .keys()
        .map(|name| (name.clone(), builder.cube(name)))
        .collect();
    let now = builder.kernel.boot_time();
    let watched = super::unwatched::condition(builder.kernel, &record.topology);
    let waits = record.pending.as_ref();
    let waits = waits.map(|pending| super::conditions::confirmed(pending, now));
    let conditions = [Some(builder.ready()), waits, watched];
    Ok(Some(Status {
        format_version: FORMAT_VERSION,
        name: record.topology.metadata.name.clone(),
        conditions: conditions.into_iter().flatten().collect(),
        observed_generation: None,
        last_applied_revision: journal::revision(&record.topology),
        last_attempted_revision: None,
        last_attempted_result: None,
        cubes,
        interfaces: builder.interfaces(),
        namespaces: builder.namespaces(),
        pending: builder.reading.lowered.desired.pending.clone(),
        applied: Arc::clone(&record.topology),
        drift: builder.reading.drifted(),
    }))
}

struct Builder<'a> {
    kernel: &'a mut dyn Kernel,
    topology: &'a ValidTopology,
    graph: &'a TopologyGraph<'a>,
    record: &'a Record,
    reading: Reading,
    lists: bool,
}

impl Builder<'_> {
    fn allocation(&self) -> &Allocation {
        &self.record.allocation
    }

    fn ready(&self) -> Condition {
        let list = |items: Vec<String>| items.join("; ");
        let Reading { drift, lowered, .. } = &self.reading;
        let desired = &lowered.desired;
        let (status, reason, message) = if self.record.unfinished {
            let message = "an apply began and did not come to its end (yet); see `Reconciling`";
            ("False", "Unfinished", message.to_owned())
        } else if !drift.is_empty() {
            let faults = drift
                .iter()
                .map(|change| format!("{}: {}", change.address, change.reason))
                .collect();
            ("False", "Drifted", list(faults))
        } else if !desired.pending.is_empty() {
            let waits = desired
                .pending
                .iter()
                .map(|object| format!("{}: {}", object.address, object.reason))
                .collect();
            ("False", "Pending", list(waits))
        } else if let Some(name) = self.down() {
            let message = format!("{}: the interface is set down", Address::interface(name));
            ("False", "InterfaceDown", message)
        } else {
            (
                "True",
                "Applied",
                "everything is as it was applied".to_owned(),
            )
        };
        Condition {
            kind: "Ready",
            status,
            reason,
            message,
            since: None,
        }
    }

    /// An interface that is linked or filtered, and set down.
    fn down(&self) -> Option<&InterfaceName> {
        let mut used = self.graph.host_interfaces().into_iter();
        used.find(|name| self.is_down(name))
    }

    fn is_down(&self, name: &InterfaceName) -> bool {
        let interface = self.reading.observed.interfaces.get(name);
        interface.is_some_and(|interface| !interface.up)
    }

    fn cube(&mut self, name: &Name) -> Cube {
        let spec = &self.topology.topology().spec.cubes[name];
        let counters = counters::Table::read(self.kernel, name);
        let attachments = if spec.kind().is_transparent() {
            self.attachments(name, &counters)
        } else {
            BTreeMap::new()
        };
        let ports: BTreeMap<String, Port> = self
            .graph
            .ports(name)
            .map(|port| (port.to_string(), self.port(name, port, &counters)))
            .collect();
        let names = self
            .allocation()
            .ports(name)
            .map(|(port, index)| (index, port.to_owned()))
            .collect();
        let tables = self.tables(name);
        let lists = if self.lists {
            let tables = CubeTables {
                kernel: RefCell::new(self.kernel),
                cube: name,
            };
            let driver = driver_for(spec.kind());
            let context = crate::cube::Context {
                name,
                cube: spec,
                graph: self.graph,
                allocation: &self.record.allocation,
                rules: None,
                down: &self.record.down,
            };
            let mut lists = driver.show(&tables, &names);
            lists.extend(driver.details(&context, &tables));
            lists
        } else {
            serde_json::Map::new()
        };
        let waits =
            !attachments.is_empty() && attachments.values().all(|at| at.state.state == "pending");
        let state = match self.reading.fault(&Address::cube(name)) {
            Some(reason) => State::because("failed", reason),
            None if waits => State {
                state: "pending",
                reason: attachments.values().find_map(|at| at.state.reason.clone()),
            },
            None => State::plain("ready"),
        };
        Cube {
            kind: spec.kind().name(),
            state,
            ports,
            attachments,
            tables,
            lists,
        }
    }

    /// Arrays are always full: they are left out. So is what has room for one entry: nothing reads it
    /// in this cube.
    fn tables(&mut self, cube: &Name) -> BTreeMap<String, Table> {
        let folder = PinPath::found(format!("cubes/{cube}/"));
        let maps = self.reading.observed.maps.range(folder.clone()..);
        maps.take_while(|(path, _)| path.as_str().starts_with(folder.as_str()))
            .filter_map(|(path, map)| {
                let shape = map.shape?;
                let used = shape.kind.may_be_full() && shape.max_entries > 1;
                used.then_some(())?;
                let read = map.entries.as_ref().map(|entries| entries.len() as u64);
                let table = Table {
                    entries: read.or_else(|| self.kernel.count(path).ok()),
                    capacity: shape.max_entries,
                };
                Some((path.name().to_owned(), table))
            })
            .collect()
    }

    fn port(&self, cube: &Name, port: &Name, counters: &counters::Table) -> Port {
        let endpoint = Endpoint::Port {
            cube: cube.clone(),
            port: port.clone(),
        };
        let spec = &self.topology.topology().spec.cubes[cube];
        Port {
            peer: self.graph.peer(&endpoint).map(ToString::to_string),
            state: self.linked(&endpoint),
            through: spec.through(port).to_vec(),
            details: driver_for(spec.kind()).port_details(spec, port),
            traffic: counters.at(self.allocation().port(cube, port)),
        }
    }

    /// How the link of an endpoint is.
    fn linked(&self, endpoint: &Endpoint) -> State {
        let Some(peer) = self.graph.peer(endpoint) else {
            return State::plain("unlinked");
        };
        for end in [endpoint, peer] {
            if let Some(pending) = self.missing(end) {
                return pending;
            }
        }
        let links = &self.topology.topology().spec.links;
        let link = links
            .iter()
            .find(|link| link.endpoints().contains(&endpoint))
            .map(Address::link);
        let owners = [Some(owner(endpoint)), Some(owner(peer)), link];
        match owners
            .into_iter()
            .flatten()
            .find_map(|address| self.reading.fault(&address))
        {
            Some(reason) => State::because("failed", reason),
            None => match [endpoint, peer].into_iter().find_map(host_interface) {
                Some(name) if self.is_down(name) => {
                    State::because("down", format!("interface {name} is set down"))
                }
                _ => State::plain("up"),
            },
        }
    }

    /// Set if an endpoint is an interface that is not there.
    fn missing(&self, endpoint: &Endpoint) -> Option<State> {
        match endpoint {
            Endpoint::Host(name) if !self.is_present(name) => {
                Some(State::because("pending", format!("no interface {name}")))
            }
            _ => None,
        }
    }

    fn is_present(&self, name: &InterfaceName) -> bool {
        self.reading
            .observed
            .interfaces
            .get(name)
            .is_some_and(|interface| !interface.ours)
    }

    fn attachments(&self, cube: &Name, counters: &counters::Table) -> BTreeMap<String, Attachment> {
        let places = stacks(self.graph)
            .into_iter()
            .filter(|(_, stack)| stack.contains(cube));
        places
            .map(|(endpoint, _)| {
                let index = self.allocation().attachment(cube, &endpoint);
                let at =
                    |direction| counters.at(index.map(|index| counter_index(index, direction)));
                let state = match &endpoint {
                    Endpoint::Host(name) => self.interface_state(name),
                    _ => self.linked(&endpoint),
                };
                let attachment = Attachment {
                    state,
                    ingress: at(Direction::Ingress),
                    egress: at(Direction::Egress),
                };
                (endpoint.to_string(), attachment)
            })
            .collect()
    }

    fn interfaces(&self) -> BTreeMap<InterfaceName, Interface> {
        let settings = &self.topology.topology().spec.interfaces;
        let mut names: BTreeSet<&InterfaceName> = self.graph.host_interfaces();
        names.extend(settings.keys());
        let interface = |name: &InterfaceName| Interface {
            state: self.interface_state(name),
            hook: self.graph.hook(name).name(),
            through: self.graph.interface_stack(name).to_vec(),
            peer: self
                .graph
                .peer(&Endpoint::Host(name.clone()))
                .map(ToString::to_string),
        };
        names
            .into_iter()
            .map(|name| (name.clone(), interface(name)))
            .collect()
    }

    fn interface_state(&self, name: &InterfaceName) -> State {
        if !self.is_present(name) {
            return State::because("pending", "no such interface".to_owned());
        }
        match self.reading.fault(&Address::interface(name)) {
            Some(reason) => State::because("failed", reason),
            None if self.is_down(name) => {
                State::because("down", "the interface is set down".to_owned())
            }
            None => State::plain("up"),
        }
    }

    fn namespaces(&self) -> BTreeMap<Name, Namespace> {
        let namespace = |name: &Name, settings: &topology_schema::Namespace| Namespace {
            state: match self.reading.fault(&Address::namespace(name)) {
                Some(reason) => State::because("failed", reason),
                None => State::plain("ready"),
            },
            interfaces: settings
                .interfaces
                .iter()
                .map(|(interface, settings)| {
                    let endpoint = Endpoint::Namespace {
                        namespace: name.clone(),
                        interface: interface.clone(),
                    };
                    let peer = self.graph.peer(&endpoint).map(ToString::to_string);
                    let addresses = settings.addresses.iter().map(ToString::to_string).collect();
                    (interface.clone(), NamespaceInterface { peer, addresses })
                })
                .collect(),
        };
        let namespaces = &self.topology.topology().spec.namespaces;
        namespaces
            .iter()
            .map(|(name, settings)| (name.clone(), namespace(name, settings)))
            .collect()
    }
}

impl State {
    fn plain(state: &'static str) -> Self {
        Self {
            state,
            reason: None,
        }
    }

    fn because(state: &'static str, reason: String) -> Self {
        Self {
            state,
            reason: Some(reason),
        }
    }
}

/// The interface of the host that an endpoint is.
fn host_interface(endpoint: &Endpoint) -> Option<&InterfaceName> {
    match endpoint {
        Endpoint::Host(name) => Some(name),
        Endpoint::Port { .. } | Endpoint::Namespace { .. } => None,
    }
}

/// Whose an endpoint is in a plan.
fn owner(endpoint: &Endpoint) -> Address {
    match endpoint {
        Endpoint::Port { cube, .. } => Address::cube(cube),
        Endpoint::Namespace { namespace, .. } => Address::namespace(namespace),
        Endpoint::Host(name) => Address::interface(name),
    }
}
