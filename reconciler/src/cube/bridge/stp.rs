//! A bridge's spanning tree: its tables, its settings as the engine wants them, what there is to
//! show.

use std::collections::{BTreeMap, BTreeSet};

use ebpf_abi::stp::{
    BPDU_BYTES, NO_BPDU_BYTES, STP_DISCARDING, STP_INSTANCES, STP_IS_DOWN, STP_IS_EDGE,
    STP_IS_GUARDED, STP_IS_RAPID, STP_LEARNING, STP_NO_PORT, STP_PORT_EDGE, STP_ROLE_ALTERNATE,
    STP_ROLE_BACKUP, STP_ROLE_DESIGNATED, STP_ROLE_DISABLED, STP_ROLE_ROOT, STP_VLANS, StpBridge,
    StpKey, StpPort, StpRole, StpState,
};
use serde_json::{Map, Value, json};
use topology_schema::{
    Cube, Endpoint, InterfaceName, Name,
    cube::bridge::{
        DEFAULT_VLAN, Port, Spec,
        stp::{PortStp, Vlan},
    },
};

use crate::{
    cube::{Context, Table, Tables, default_mac, index},
    digest::Digest,
    resource::MapKind,
    rows::Rows,
    stp::{
        bridge::{COMMON, Carries, Config, PortConfig},
        port::{PortSettings, cost_of},
        vector::{BridgeId, PortId, Times},
    },
    wiring,
};

/// The tables. Those of a bridge without a spanning tree are as small as they can be: its program
/// has no code for them.
pub(super) fn tables(spec: &Spec, context: &Context<'_>) -> Vec<Table> {
    let on = spec.stp.enabled;
    let size = |entries: u32| if on { entries } else { 1 };
    let ports = context.capacity();
    let settings: Rows = context
        .linked_ports()
        .into_iter()
        .filter(|_| on)
        .map(|(name, port)| {
            let edge = name
                .parse::<Name>()
                .ok()
                .and_then(|name| spec.ports.get(&name)?.stp.edge)
                .unwrap_or(false);
            let settings = StpPort {
                identity: identity(context, name),
                flags: if edge { STP_PORT_EDGE } else { 0 },
            };
            (index(port), bytemuck::bytes_of(&settings).to_vec())
        })
        .collect();
    let ring = if on { BPDU_BYTES } else { NO_BPDU_BYTES };
    let key = size_of::<StpKey>();
    let mut tables = vec![
        Table::config(
            "stp_ports",
            MapKind::Array,
            size(ports),
            (4, size_of::<StpPort>()),
            settings,
        ),
        Table::learned("stp_instances", MapKind::Array, size(STP_VLANS), (4, 4)),
        Table::learned(
            "stp_states",
            MapKind::Array,
            size(ports * STP_INSTANCES),
            (4, size_of::<StpState>()),
        ),
        Table::learned("bpdus", MapKind::RingBuf, ring, (0, 0)),
        Table::learned("listening", MapKind::Array, 1, (4, size_of::<u64>())),
    ];
    // No program has these: they are for those who look, and for the next engine.
    if on {
        let of_instances = (key, size_of::<StpBridge>());
        let of_ports = (key, size_of::<StpRole>());
        let roles = ports * STP_INSTANCES;
        tables.extend([
            Table::learned("stp_bridges", MapKind::Hash, STP_INSTANCES, of_instances),
            Table::learned("stp_roles", MapKind::Hash, roles, of_ports),
        ]);
    }
    tables
}

/// Stands for a port and what it is linked to; not 0.
fn identity(context: &Context<'_>, port: &str) -> u32 {
    let peer = port.parse().ok().and_then(|port| peer(context, port));
    let peer = peer.map(ToString::to_string).unwrap_or_default();
    let digest = |salt: &str| u32::from(Digest::of(&["stp", salt, port, &peer]).word());
    (digest("high") << 16 | digest("low")).max(1)
}

fn peer<'a>(context: &Context<'a>, port: Name) -> Option<&'a Endpoint> {
    let cube = context.name.clone();
    context.graph.peer(&Endpoint::Port { cube, port })
}

/// The linked ports, and the interface of the host on which each depends; none for one that is
/// linked to another cube, which is always up.
pub fn interfaces(context: &Context<'_>) -> BTreeMap<u32, Option<InterfaceName>> {
    let topology = &context.graph.topology().topology().metadata.name;
    let ports = context.linked_ports().into_iter();
    let interface = |(name, port): (&str, u32)| {
        let interface = match peer(context, name.parse().ok()?)? {
            Endpoint::Host(interface) => Some(interface.clone()),
            namespace @ Endpoint::Namespace { .. } => {
                Some(wiring::outer_name(topology, &namespace.to_string()))
            }
            Endpoint::Port { .. } => None,
        };
        Some((port, interface))
    };
    ports.filter_map(interface).collect()
}

/// The settings of a bridge that takes part, as the engine wants them. `speed` is that of a port,
/// in Mb/s.
pub fn config(context: &Context<'_>, speed: &dyn Fn(u32) -> Option<u32>) -> Option<Config> {
    let Cube::Bridge(spec) = context.cube else {
        return None;
    };
    if !spec.stp.enabled {
        return None;
    }
    let topology = &context.graph.topology().topology().metadata.name;
    let own = |owner: &str| default_mac(topology, owner).0;
    let priority = |priority: u32| priority as u16;
    let common = priority(spec.stp.priority.get());
    let of_vlans = spec.stp.vlans.iter().map(|(vlan, settings)| {
        let own = settings.priority.map(|own| priority(own.get()));
        (id(*vlan), own.unwrap_or(common))
    });
    let ports = context.linked_ports().into_iter().map(|(name, port)| {
        let settings = name
            .parse()
            .ok()
            .and_then(|name: Name| spec.ports.get(&name));
        let default = Port::default();
        let settings = settings.unwrap_or(&default);
        let address = settings
            .mac
            .map_or_else(|| own(&format!("{}:{name}", context.name)), |mac| mac.0);
        let cost = settings.stp.cost.map(|cost| cost.get());
        let cost = cost.unwrap_or_else(|| cost_of(speed(port)));
        let config = PortConfig {
            identity: identity(context, name),
            address,
            carries: carries(spec, settings),
            settings: port_settings(&settings.stp, cost),
            of_vlans: port_in_vlans(&settings.stp, cost),
            guard: settings.stp.bpdu_guard,
        };
        (port, config)
    });
    let seconds = |seconds: u32| seconds as u16;
    Some(Config {
        address: spec
            .mac
            .map_or_else(|| own(context.name.as_str()), |mac| mac.0),
        times: Times {
            message_age: 0,
            max_age: seconds(spec.stp.max_age.get()),
            hello_time: seconds(spec.stp.hello_time.get()),
            forward_delay: seconds(spec.stp.forward_delay.get()),
        },
        instances: of_vlans.chain([(COMMON, common)]).collect(),
        ports: ports.collect(),
    })
}

fn id(vlan: Vlan) -> u16 {
    vlan.0.get() as u16
}

fn port_settings(stp: &PortStp, cost: u32) -> PortSettings {
    PortSettings {
        cost,
        priority: stp.priority.get() as u8,
        edge: stp.edge == Some(true),
        auto_edge: stp.edge != Some(false),
        // What is linked here has two ends. A hub is not seen from here.
        point_to_point: true,
    }
}

fn port_in_vlans(stp: &PortStp, cost: u32) -> BTreeMap<u16, (u32, u8)> {
    let vlans = stp.vlans.iter().map(|(vlan, settings)| {
        let cost = settings.cost.map_or(cost, |cost| cost.get());
        let priority = settings.priority.unwrap_or(stp.priority).get();
        (id(*vlan), (cost, priority as u8))
    });
    vlans.collect()
}

/// The VLANs of a port, of those that have an instance of their own.
fn carries(spec: &Spec, port: &Port) -> Carries {
    let number = |vlan: topology_schema::VlanId| vlan.get() as u16;
    match (&port.access, &port.trunk) {
        (None, Some(trunk)) => {
            let own = spec.stp.vlans.keys();
            let allowed: BTreeSet<u16> = own
                .filter(|vlan| port.carries(vlan.0))
                .map(|vlan| id(*vlan))
                .collect();
            let native = trunk.native.map(number);
            Carries::Trunk { native, allowed }
        }
        (access, _) => Carries::Access(number(access.unwrap_or(DEFAULT_VLAN))),
    }
}

/// The instances, and their ports.
pub(super) fn show(tables: &dyn Tables, name: &dyn Fn(u32) -> String) -> Map<String, Value> {
    let mut lists = Map::new();
    let bridges = read::<StpBridge>(tables, "stp_bridges");
    if bridges.is_empty() {
        return lists;
    }
    let bridges = bridges.into_iter().map(|(key, bridge)| {
        let root_port = (bridge.root_port != STP_NO_PORT).then(|| name(bridge.root_port));
        json!({
            "instance": instance(key),
            "bridge": bridge_id(bridge.id),
            "root": bridge_id(bridge.root),
            "cost": bridge.cost,
            "rootPort": root_port,
            "helloTime": bridge.times.hello_time,
            "maxAge": bridge.times.max_age,
            "forwardDelay": bridge.times.forward_delay,
            "topologyChanges": bridge.changes,
        })
    });
    let roles = read::<StpRole>(tables, "stp_roles");
    let roles = roles.into_iter().map(|(key, role)| {
        json!({
            "instance": instance(key),
            "port": name(u32::from(key.port)),
            "role": role_name(&role),
            "state": state_name(u32::from(role.state)),
            "cost": role.cost,
            "id": PortId(role.id).to_string(),
            "edge": role.flags & STP_IS_EDGE != 0,
            "protocol": if role.flags & STP_IS_RAPID != 0 { "rstp" } else { "stp" },
            "designatedBridge": bridge_id(role.designated.bridge),
            "designatedPort": PortId(role.designated.port).to_string(),
        })
    });
    lists.insert("spanningTree".to_owned(), bridges.collect());
    lists.insert("spanningTreePorts".to_owned(), roles.collect());
    lists
}

fn read<V: bytemuck::Pod>(tables: &dyn Tables, table: &str) -> BTreeMap<StpKey, V> {
    let entries = tables.entries(table).into_iter();
    entries
        .filter_map(|(key, values)| {
            let value = bytemuck::try_pod_read_unaligned(values.first()?).ok()?;
            Some((bytemuck::try_pod_read_unaligned(&key).ok()?, value))
        })
        .collect()
}

fn instance(key: StpKey) -> Value {
    match key.vlan {
        COMMON => "common".into(),
        vlan => vlan.into(),
    }
}

fn bridge_id(bytes: [u8; 8]) -> String {
    BridgeId::from_bytes(bytes).to_string()
}

const fn role_name(role: &StpRole) -> &'static str {
    if role.flags & STP_IS_GUARDED != 0 {
        return "bpduGuard";
    }
    if role.flags & STP_IS_DOWN != 0 {
        return "down";
    }
    match role.role {
        STP_ROLE_ROOT => "root",
        STP_ROLE_DESIGNATED => "designated",
        STP_ROLE_ALTERNATE => "alternate",
        STP_ROLE_BACKUP => "backup",
        STP_ROLE_DISABLED => "disabled",
        _ => "unknown",
    }
}

const fn state_name(state: u32) -> &'static str {
    match state {
        STP_DISCARDING => "discarding",
        STP_LEARNING => "learning",
        _ => "forwarding",
    }
}
