//! What `pcn show` says of a NAT: its sessions.

use std::{collections::BTreeMap, net::IpAddr};

use ebpf_abi::{
    chain::Direction,
    flow::{FlowKey, ICMP, ICMPV6, TCP, UDP, has_ports},
    nat::{
        Forward, ForwardKey, RULE_DNAT, RULE_MASQUERADE, RULE_NAT64, RULE_PORT_FORWARD, RULE_SNAT,
        SLOT_LIVE, SLOT_STATE, Session, Settings, State,
    },
    tcp,
};
use serde_json::{Map, Value, json};
use topology_schema::Prefix;

use super::{Tables, address};

const NANOSECONDS: u64 = 1_000_000_000;

pub(super) fn show(tables: &dyn Tables) -> Map<String, Value> {
    let settings = first::<Settings>(tables, "settings");
    let flushed = first::<State>(tables, "state").flushed;
    let forwards = forwards(tables);
    let now = tables.now();
    let mut sessions: Vec<Session> = tables
        .entries("sessions")
        .iter()
        .filter_map(|(_, values)| bytemuck::try_pod_read_unaligned(values.first()?).ok())
        .filter(|session: &Session| {
            session.word & SLOT_STATE == SLOT_LIVE
                && session.created >= flushed
                && now.saturating_sub(session.seen) <= timeout(session, &settings)
        })
        .collect();
    sessions.sort_by_key(|session| session.keys[Direction::Egress as usize]);
    let sessions = sessions
        .iter()
        .map(|session| entry(session, &settings, &forwards, now))
        .collect();
    Map::from_iter([("sessions".to_owned(), sessions)])
}

fn first<T: bytemuck::AnyBitPattern + Default>(tables: &dyn Tables, table: &str) -> T {
    let entries = tables.entries(table);
    entries
        .first()
        .and_then(|(_, values)| bytemuck::try_pod_read_unaligned(values.first()?).ok())
        .unwrap_or_default()
}

type Forwards = BTreeMap<Vec<u8>, Forward>;

fn forwards(tables: &dyn Tables) -> Forwards {
    tables
        .entries("forwards")
        .into_iter()
        .filter_map(|(key, values)| {
            let value = bytemuck::try_pod_read_unaligned(values.first()?).ok()?;
            Some((key, value))
        })
        .collect()
}

fn timeout(session: &Session, settings: &Settings) -> u64 {
    match session.keys[0].protocol {
        TCP if session.state == tcp::ESTABLISHED => settings.tcp_established,
        TCP => settings.tcp_transitory,
        UDP => settings.udp,
        ICMP | ICMPV6 => settings.icmp,
        _ => settings.other,
    }
}

fn entry(session: &Session, settings: &Settings, forwards: &Forwards, now: u64) -> Value {
    let [ingress, egress] = &session.keys;
    let inside = end(egress, egress.source, egress.source_port.get());
    let external = end(ingress, ingress.destination, ingress.destination_port.get());
    let remote = end(ingress, ingress.source, ingress.source_port.get());
    let left = (session.seen + timeout(session, settings)).saturating_sub(now);
    let traffic = |direction: Direction| {
        let side = direction as usize;
        json!({ "packets": session.packets[side], "bytes": session.bytes[side] })
    };
    let mut value = json!({
        "protocol": protocol(egress.protocol),
        "inside": inside,
        "external": external,
        "remote": remote,
        "rule": rule(session, forwards),
        "age": now.saturating_sub(session.created) / NANOSECONDS,
        "expiresIn": left / NANOSECONDS,
        "egress": traffic(Direction::Egress),
        "ingress": traffic(Direction::Ingress),
    });
    if egress.protocol == TCP {
        value["state"] = tcp::name(session.state).into();
    }
    value
}

fn end(key: &FlowKey, words: ebpf_abi::address::V6, port: u16) -> String {
    let address = address(words);
    let numbered = has_ports(key.protocol) || matches!(key.protocol, ICMP | ICMPV6);
    match address {
        _ if !numbered => address.to_string(),
        IpAddr::V4(address) => format!("{address}:{port}"),
        IpAddr::V6(address) => format!("[{address}]:{port}"),
    }
}

fn protocol(number: u8) -> Value {
    match number {
        TCP => "tcp".into(),
        UDP => "udp".into(),
        ICMP => "icmp".into(),
        ICMPV6 => "icmpv6".into(),
        number => number.into(),
    }
}

/// The rule that made a session, as plans call it.
fn rule(session: &Session, forwards: &Forwards) -> String {
    let [ingress, egress] = &session.keys;
    match session.rule {
        RULE_MASQUERADE | RULE_SNAT => {
            let prefix = Prefix::containing(address(egress.source), session.rule_length);
            match (session.rule, prefix) {
                (RULE_SNAT, Some(prefix)) => format!("snat/{prefix}"),
                (RULE_MASQUERADE, Some(prefix)) if prefix.length() > 0 => {
                    format!("masquerade/{prefix}")
                }
                _ => "masquerade".to_owned(),
            }
        }
        RULE_NAT64 => match Prefix::containing(address(egress.source), session.rule_length) {
            Some(prefix) if prefix.length() > 0 => format!("nat64/source/{prefix}"),
            _ => "nat64".to_owned(),
        },
        RULE_DNAT => format!("dnat/{}", address(ingress.destination)),
        RULE_PORT_FORWARD => port_forward(ingress, forwards),
        _ => String::new(),
    }
}

/// The entry that has the port now; of one that is gone the port alone is known.
fn port_forward(ingress: &FlowKey, forwards: &Forwards) -> String {
    let port = u32::from(ingress.destination_port.get());
    let of = |protocol: u16| {
        forwards.iter().find_map(|(key, forward)| {
            let key = bytemuck::try_pod_read_unaligned::<ForwardKey>(key).ok()?;
            let (first, last) = (forward.ports >> 16, forward.ports & 0xffff);
            (forward.rule == RULE_PORT_FORWARD
                && key.address == ingress.destination
                && key.protocol.get() == protocol
                && (first..=last).contains(&port))
            .then_some((protocol, first, last))
        })
    };
    let destination = address(ingress.destination);
    let found = of(ingress.protocol.into()).or_else(|| of(0));
    let (protocol, first, last) = found.unwrap_or((0, port, port));
    let protocol = match protocol as u8 {
        TCP => "tcp/",
        UDP => "udp/",
        _ => "",
    };
    if first == last {
        format!("portForward/{protocol}{destination}/{first}")
    } else {
        format!("portForward/{protocol}{destination}/{first}-{last}")
    }
}
