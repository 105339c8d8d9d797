//! From rules to tables.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ebpf_abi::{
    address::{Be16, V6},
    checksum,
    flow::{TCP, UDP},
    nat::{
        EXTERNAL_ONLY, EXTERNAL_TURNS, FORWARD_BITS, Forward, ForwardKey, LIST_MASQUERADE,
        LIST_NAT64, LIST_SNAT, MASQUERADES, POOL_DYNAMIC, PORT_WORDS, Pool, Ports, PrefixKey,
        PrefixRule, RULE_DNAT, RULE_PORT_FORWARD, SIDE_INSIDE, SIDE_IPV4, SIDE_IPV6, SIDE_OUTSIDE,
        SourceKey, SourceRule, masquerade_pool, port_kind, ports_index,
    },
};
use topology_schema::{
    AddressRange, Cube, Endpoint, InterfaceAddress, PortRange, Prefix,
    cube::nat::{ForwardProtocol, Masquerade, PrefixPair, Spec},
};

use super::{Context, Own, address, bits, pool_number, words};

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

fn bytes<T: bytemuck::NoUninit>(value: &T) -> Vec<u8> {
    bytemuck::bytes_of(value).to_vec()
}

/// Addresses of the router's port that the endpoint is, or that is at the other end of its link;
/// `None` for an interface of the host that leads to the host's stack.
fn addresses(context: &Context<'_>, endpoint: &Endpoint) -> Option<Vec<IpAddr>> {
    let port = match endpoint {
        Endpoint::Host(_) => context.graph.peer(endpoint)?,
        Endpoint::Port { .. } | Endpoint::Namespace { .. } => endpoint,
    };
    let Endpoint::Port { cube, port } = port else {
        return Some(Vec::new());
    };
    let Some(Cube::Router(router)) = context.graph.cube(cube) else {
        return Some(Vec::new());
    };
    let addresses = router.ports.get(port).map(|port| &port.addresses);
    let addresses = addresses.into_iter().flatten();
    Some(addresses.map(InterfaceAddress::address).collect())
}

fn attachments(context: &Context<'_>) -> Vec<(u32, Option<Vec<IpAddr>>)> {
    let attachments = context.allocation.attachments(context.name);
    attachments
        .filter_map(|(endpoint, number)| {
            let endpoint = endpoint.parse().ok()?;
            Some((number, addresses(context, &endpoint)))
        })
        .collect()
}

/// External addresses by number.
pub(super) fn pools(context: &Context<'_>, spec: &Spec) -> BTreeMap<u32, Pool> {
    let mut pools = BTreeMap::new();
    if !spec.masquerade.is_off() {
        for (attachment, addresses) in attachments(context) {
            if attachment >= MASQUERADES {
                continue;
            }
            for family in [4, 6] {
                let pool = match &addresses {
                    None => Some(Pool {
                        flags: POOL_DYNAMIC,
                        ..Pool::default()
                    }),
                    Some(addresses) => addresses
                        .iter()
                        .find(|address| address.is_ipv4() == (family == 4))
                        .map(|address| plain(*address)),
                };
                pools.extend(pool.map(|pool| (masquerade_pool(attachment, family), pool)));
            }
        }
    }
    for range in spec.ranges() {
        if let Some(first) = pool_number(context, range) {
            pools.extend((first..).zip(range.addresses().map(plain)));
        }
    }
    pools
}

fn plain(address: IpAddr) -> Pool {
    Pool {
        address: words(address),
        flags: 0,
    }
}

/// Rules on sources.
pub(super) fn sources(context: &Context<'_>, spec: &Spec) -> Entries {
    let everybody = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Ipv6Addr::UNSPECIFIED.into(),
    ];
    let everybody = everybody.map(|address| Prefix::containing(address, 0));
    let masqueraded: Vec<Prefix> = match &spec.masquerade {
        Masquerade::Switch(true) => everybody.into_iter().flatten().collect(),
        Masquerade::Switch(false) => Vec::new(),
        Masquerade::Prefixes(prefixes) => prefixes.clone(),
    };
    let masqueraded = masqueraded
        .iter()
        .map(|prefix| source(LIST_MASQUERADE, prefix, (0, 1)));
    let snat = spec.snat.iter().filter_map(|entry| {
        let pool = pool_number(context, entry.to)?;
        let count = entry.to.count() as u32;
        Some(source(LIST_SNAT, &entry.source, (pool, count)))
    });
    masqueraded
        .chain(snat)
        .chain(nat64(context, spec))
        .collect()
}

/// Those who get an address of `nat64`.
fn nat64(context: &Context<'_>, spec: &Spec) -> Entries {
    let Some((nat64, range)) = spec
        .nat64
        .as_ref()
        .and_then(|nat64| Some((nat64, nat64.to?)))
    else {
        return Entries::new();
    };
    let Some(pool) = pool_number(context, range) else {
        return Entries::new();
    };
    let everybody = Prefix::containing(Ipv6Addr::UNSPECIFIED.into(), 0);
    let everybody = everybody.filter(|_| nat64.source.is_empty());
    let sources = nat64.source.iter().chain(&everybody);
    let pool = (pool, range.count() as u32);
    sources
        .map(|prefix| source(LIST_NAT64, prefix, pool))
        .collect()
}

fn source(list: u32, prefix: &Prefix, (pool, count): (u32, u32)) -> (Vec<u8>, Vec<u8>) {
    let key = SourceKey {
        length: 32 + bits(prefix),
        list,
        address: words(prefix.address()),
    };
    let rule = SourceRule {
        pool,
        count,
        length: prefix.length().into(),
    };
    (bytes(&key), bytes(&rule))
}

/// Rules on destinations.
pub(super) fn forwards(spec: &Spec) -> Entries {
    let mut entries = Entries::new();
    for entry in &spec.dnat {
        let key = ForwardKey {
            length: FORWARD_BITS,
            address: words(entry.destination),
            protocol: Be16::new(0),
            port: Be16::new(0),
        };
        let forward = Forward {
            address: words(entry.to),
            rule: RULE_DNAT,
            ports: 0xffff,
            ..Forward::default()
        };
        entries.insert(bytes(&key), bytes(&forward));
    }
    for entry in &spec.port_forward {
        let first = u32::from(entry.port.first());
        let to = entry.to_port.map_or(first, |port| port.get());
        let forward = Forward {
            address: words(entry.to),
            shift: (to as u16).wrapping_sub(entry.port.first()),
            rule: RULE_PORT_FORWARD,
            padding: 0,
            ports: first << 16 | u32::from(entry.port.last()),
        };
        for (port, length) in blocks(entry.port) {
            let protocol = match entry.protocol {
                ForwardProtocol::Tcp => TCP,
                ForwardProtocol::Udp => UDP,
                ForwardProtocol::All => 0,
            };
            let key = ForwardKey {
                length: FORWARD_BITS + length,
                address: words(entry.destination),
                protocol: Be16::new(protocol.into()),
                port: Be16::new(port),
            };
            entries.insert(bytes(&key), bytes(&forward));
        }
    }
    entries
}

/// A range as blocks of which each is a prefix: its first port and its bits.
fn blocks(range: PortRange) -> Vec<(u16, u32)> {
    let (mut first, last) = (u32::from(range.first()), u32::from(range.last()));
    let mut blocks = Vec::new();
    while first <= last {
        // As large as where it begins allows, and not beyond the end.
        let mut size = 1 << first.trailing_zeros().min(15);
        while first + size - 1 > last {
            size /= 2;
        }
        blocks.push((first as u16, 16 - size.ilog2()));
        first += size;
    }
    blocks
}

/// How a rule on destinations is called.
pub(super) fn forward_name(key: &[u8]) -> Option<String> {
    let key = bytemuck::try_pod_read_unaligned::<ForwardKey>(key).ok()?;
    let destination = address(key.address);
    if key.length == FORWARD_BITS {
        return Some(format!("dnat/{destination}"));
    }
    let protocol = match key.protocol.get() as u8 {
        TCP => "tcp/",
        UDP => "udp/",
        _ => "",
    };
    Some(format!(
        "portForward/{protocol}{destination}/{}",
        key.port.get()
    ))
}

/// Ports that are forwarded, for each external address that hands out ports.
pub(super) fn reserved(spec: &Spec, pools: &BTreeMap<u32, Pool>) -> Entries {
    let mut entries: BTreeMap<u32, Ports> = BTreeMap::new();
    for entry in &spec.port_forward {
        let protocols: &[u8] = match entry.protocol {
            ForwardProtocol::Tcp => &[TCP],
            ForwardProtocol::Udp => &[UDP],
            ForwardProtocol::All => &[TCP, UDP],
        };
        let destination = words(entry.destination);
        // A dynamic address may become the one that has the ports.
        let concerned = pools
            .iter()
            .filter(|(_, pool)| pool.address == destination || pool.flags & POOL_DYNAMIC != 0);
        for (number, _) in concerned {
            for kind in protocols.iter().filter_map(|protocol| port_kind(*protocol)) {
                let ports = entries.entry(ports_index(*number, kind)).or_insert(Ports {
                    words: [0; PORT_WORDS],
                });
                for port in entry.port.first()..=entry.port.last() {
                    ports.words[usize::from(port / 64)] |= 1 << (port % 64);
                }
            }
        }
    }
    entries
        .iter()
        .map(|(index, ports)| (super::index(*index), bytes(ports)))
        .collect()
}

/// External addresses: those of rules, and those of ports that the cube sits on.
pub(super) fn externals(context: &Context<'_>, spec: &Spec) -> Entries {
    let attachments = attachments(context);
    // On an interface of the host any of them may be the host's.
    let is_on_host = attachments.iter().any(|(_, addresses)| addresses.is_none());
    let own = attachments
        .into_iter()
        .filter_map(|(_, addresses)| addresses);
    let own: Own = own.flatten().collect();
    let rules = spec.dnat.iter().map(|entry| entry.destination);
    let rules = rules.chain(spec.port_forward.iter().map(|entry| entry.destination));
    let rules = rules.chain(spec.ranges().flat_map(AddressRange::addresses));
    let rules: Own = rules.collect();
    rules
        .union(&own)
        .map(|address| {
            let is_own = is_on_host || own.contains(address);
            let only = if is_own { 0 } else { EXTERNAL_ONLY };
            (bytes(&words(*address)), bytes(&(EXTERNAL_TURNS | only)))
        })
        .collect()
}

/// Networks that are translated one to one.
pub(super) fn prefixes(spec: &Spec) -> Entries {
    const ONE_FAMILY: (u8, u8) = (SIDE_INSIDE, SIDE_OUTSIDE);
    let pairs = spec.static_prefixes.iter();
    let pairs = pairs.map(|pair| (pair, false, ONE_FAMILY));
    let pairs = pairs.chain(spec.nptv6.iter().map(|pair| (pair, true, ONE_FAMILY)));
    let both = spec.nat46.iter();
    let pairs = pairs.chain(both.map(|pair| (pair, false, (SIDE_IPV6, SIDE_IPV4))));
    let mut entries = Entries::new();
    for (PrefixPair { internal, external }, neutral, (inside, outside)) in pairs {
        for (side, from, to) in [(inside, internal, external), (outside, external, internal)] {
            let key = PrefixKey {
                length: 32 + bits(from),
                side: side.into(),
                address: words(from.address()),
            };
            entries.insert(bytes(&key), bytes(&prefix_rule(from, to, neutral)));
        }
    }
    entries
}

fn prefix_rule(from: &Prefix, to: &Prefix, neutral: bool) -> PrefixRule {
    let host = u128::MAX.checked_shr(bits(from)).unwrap_or(0);
    let sum = |prefix: &Prefix| checksum::fold(checksum::add_v6(0, words(prefix.address())));
    // RFC 6296, 3.1: what the sum lacks afterwards.
    let lacking = checksum::fold(u64::from(sum(from)) + u64::from(!sum(to)));
    PrefixRule {
        address: words(to.address()),
        host: V6::new(host.to_be_bytes()),
        adjustment: if neutral { lacking } else { 0 },
        neutral: neutral.into(),
        word: if from.length() <= 48 { 3 } else { 255 },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn blocks_are_the_range(a in 1..=u16::MAX, b in 1..=u16::MAX) {
            let range = PortRange::new(a.min(b), a.max(b)).expect("in order");
            let blocks = blocks(range);
            prop_assert!(blocks.len() <= super::super::BLOCKS);
            let mut next = u32::from(range.first());
            for (port, length) in blocks {
                let size = 1u32 << (16 - length);
                prop_assert_eq!(u32::from(port), next);
                prop_assert_eq!(u32::from(port) % size, 0);
                next += size;
            }
            prop_assert_eq!(next, u32::from(range.last()) + 1);
        }
    }

    #[test]
    fn the_example_of_rfc_6296() {
        // Section 3.1 and appendix B: FD01:0203:0405::/48 to 2001:0DB8:0001::/48 adds 0xD54F.
        let [from, to] =
            ["fd01:203:405::/48", "2001:db8:1::/48"].map(|text| text.parse().expect("a prefix"));
        let rule = prefix_rule(&from, &to, true);
        assert_eq!(Be16::from_word(rule.adjustment).get(), 0xd54f);
        let back = prefix_rule(&to, &from, true);
        assert_eq!(Be16::from_word(back.adjustment).get(), !0xd54f);
    }
}
