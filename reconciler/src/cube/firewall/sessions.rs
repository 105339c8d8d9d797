//! The connections that a firewall remembers.

use std::net::{IpAddr, Ipv6Addr};

use ebpf_abi::{
    chain::Direction,
    firewall::{CONNECTION_REPLIED, CONNECTION_TURNED, Connection},
    flow::{FlowKey, TCP, has_ports, is_mapped, unmapped},
    tcp,
};
use serde_json::{Value, json};
use topology_schema::cube::firewall::Protocol;

use super::show::Names;
use crate::cube::Tables;

const SECOND: u64 = 1_000_000_000;

/// Those whose time is not over, the youngest first.
pub(super) fn show(tables: &dyn Tables, names: &Names) -> Vec<Value> {
    let now = tables.now();
    let entries = tables.entries("connections").into_iter();
    let mut connections: Vec<(FlowKey, Connection)> = entries
        .filter_map(|(key, values)| {
            let key = bytemuck::try_pod_read_unaligned::<FlowKey>(&key).ok()?;
            let value = bytemuck::try_pod_read_unaligned::<Connection>(values.first()?).ok()?;
            (value.expires > now).then_some((key, value))
        })
        .collect();
    connections.sort_by_key(|(key, value)| (u64::MAX - value.created, *key));
    let connections = connections.iter();
    connections
        .map(|(key, value)| session(key, value, now, names))
        .collect()
}

fn session(key: &FlowKey, value: &Connection, now: u64, names: &Names) -> Value {
    let began = if value.flags & CONNECTION_TURNED == 0 {
        *key
    } else {
        key.reversed()
    };
    let mut session = json!({
        "protocol": protocol(key.protocol),
        "source": address(began.source),
        "destination": address(began.destination),
        "state": state(key.protocol, value),
        "direction": direction(value.direction),
        "age": now.saturating_sub(value.created) / SECOND,
        "expires": (value.expires - now).div_ceil(SECOND),
        "rule": names.get(value.rule, value.identity),
        "packets": value.packets[0],
        "bytes": value.bytes[0],
        "replyPackets": value.packets[1],
        "replyBytes": value.bytes[1],
    });
    if has_ports(key.protocol) {
        session["sourcePort"] = began.source_port.get().into();
        session["destinationPort"] = began.destination_port.get().into();
    } else if began.source_port.get() != 0 {
        session["identifier"] = began.source_port.get().into();
    }
    session
}

/// The name of a protocol, or its number.
pub(super) fn protocol(number: u8) -> String {
    serde_json::from_value::<Protocol>(number.into())
        .map_or_else(|_| number.to_string(), |protocol| protocol.to_string())
}

/// An address as people write it.
pub(super) fn address(address: ebpf_abi::address::V6) -> String {
    if is_mapped(address) {
        IpAddr::from(unmapped(address).bytes()).to_string()
    } else {
        Ipv6Addr::from(address.bytes()).to_string()
    }
}

fn state(protocol: u8, value: &Connection) -> &'static str {
    match protocol {
        TCP => tcp::name(value.state),
        _ if value.flags & CONNECTION_REPLIED != 0 => "REPLIED",
        _ => "UNREPLIED",
    }
}

fn direction(direction: u8) -> &'static str {
    if u32::from(direction) == Direction::Ingress as u32 {
        "ingress"
    } else {
        "egress"
    }
}
