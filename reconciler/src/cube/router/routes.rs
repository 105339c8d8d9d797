//! Route tables: what goes in, and what a key means.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ebpf_abi::{
    address::{V4, V6},
    router::{
        ROUTE_BLACKHOLE, ROUTE_BROADCAST, ROUTE_CONNECTED, ROUTE_GROUP, ROUTE_LOCAL,
        ROUTE_PROHIBIT, ROUTE_UNREACHABLE, ROUTE_VIA, Route, RouteEntry, RouteKeyV4, RouteKeyV6,
    },
};
use serde_json::Value;
use topology_schema::{
    InterfaceAddress, Name, Prefix,
    cube::router::{Spec, SpecialRoute},
};

use super::{bytes, multipath, words};
use crate::cube::{Context, index};

/// Where routes lead: what an entry of the table `next_hops` is made of. Its text names it in the
/// record, so what differs must have another text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NextHop<'a> {
    /// Comes first: next hops are in the order of their costs. 0 where there is none.
    pub(super) cost: u32,
    /// One of the `ROUTE_*` constants.
    pub(super) kind: u32,
    /// `None` where packets do not go on.
    pub(super) port: Option<&'a Name>,
    pub(super) address: Option<IpAddr>,
}

impl fmt::Display for NextHop<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port.map_or("", Name::as_str);
        match (self.kind, self.address) {
            (ROUTE_VIA, Some(address)) => write!(f, "{port} via {address}")?,
            (ROUTE_CONNECTED, Some(address)) => write!(f, "{port} from {address}")?,
            (ROUTE_LOCAL, _) => write!(f, "{port} local")?,
            (ROUTE_BROADCAST, _) => write!(f, "{port} broadcast")?,
            (kind, _) => write!(f, "{}", kind_name(kind))?,
        }
        match self.cost {
            0 | 1 => Ok(()),
            cost => write!(f, " cost {cost}"),
        }
    }
}

/// What a route is called that does not lead on.
pub(super) fn kind_name(kind: u32) -> &'static str {
    match kind {
        ROUTE_BLACKHOLE => SpecialRoute::Blackhole.name(),
        ROUTE_UNREACHABLE => SpecialRoute::Unreachable.name(),
        ROUTE_PROHIBIT => SpecialRoute::Prohibit.name(),
        _ => "nothing",
    }
}

/// Looks at all routes of a router, in the order in which later ones win: a prefix, and where it
/// leads; several next hops are in the order of their costs. Static routes first: where a connected
/// network is the same, that one counts.
fn each_route<'a>(spec: &'a Spec, mut look: impl FnMut(Prefix, &[NextHop<'a>])) {
    let fixed = fixed(spec);
    let mut next_hops = Vec::new();
    for route in fixed.chunk_by(same_prefix) {
        next_hops.clear();
        next_hops.extend(route.iter().map(|(_, next_hop)| *next_hop));
        look(route[0].0, &next_hops);
    }
    for (port, settings) in &spec.ports {
        // In reverse, so that the first address of a network is the one that speaks on it.
        for address in settings.addresses.iter().rev() {
            let next_hop = NextHop {
                cost: 0,
                kind: ROUTE_CONNECTED,
                port: Some(port),
                address: Some(address.address()),
            };
            look(address.network(), &[next_hop]);
        }
        for address in &settings.addresses {
            for (prefix, next_hop) in own(address, port) {
                look(prefix, &[next_hop]);
            }
        }
    }
}

/// A prefix, and where it leads.
pub(super) type Path<'a> = (Prefix, NextHop<'a>);

/// For going through sorted paths prefix by prefix.
pub(super) fn same_prefix(one: &Path<'_>, other: &Path<'_>) -> bool {
    one.0 == other.0
}

/// The static routes, by prefix, those of one prefix in the order of their costs.
pub(super) fn fixed(spec: &Spec) -> Vec<Path<'_>> {
    let mut behind: BTreeMap<IpAddr, Option<&Name>> = BTreeMap::new();
    let mut fixed = Vec::with_capacity(spec.routes.len());
    for route in &spec.routes {
        let port = route.via.and_then(|via| {
            let port = behind.entry(via);
            *port.or_insert_with(|| port_towards(spec, via))
        });
        let kind = match route.special {
            None => ROUTE_VIA,
            Some(SpecialRoute::Blackhole) => ROUTE_BLACKHOLE,
            Some(SpecialRoute::Unreachable) => ROUTE_UNREACHABLE,
            Some(SpecialRoute::Prohibit) => ROUTE_PROHIBIT,
        };
        let leads_somewhere = port.is_some() || kind != ROUTE_VIA;
        if let (Some(prefix), true) = (route.prefix(), leads_somewhere) {
            let next_hop = NextHop {
                cost: route.cost.get(),
                kind,
                port,
                address: route.via,
            };
            fixed.push((prefix, next_hop));
        }
    }
    // Addresses as numbers: comparing them byte by byte takes longer than all the rest.
    let number = |prefix: &Prefix| match prefix.address() {
        IpAddr::V4(address) => (false, u128::from(u32::from(address)), prefix.length()),
        IpAddr::V6(address) => (true, u128::from(address), prefix.length()),
    };
    fixed.sort_unstable_by(|(one, next_hop), (other, other_hop)| {
        let prefixes = number(one).cmp(&number(other));
        prefixes.then_with(|| next_hop.cmp(other_hop))
    });
    fixed
}

/// The port on whose networks an address is.
fn port_towards(spec: &Spec, address: IpAddr) -> Option<&Name> {
    let on_it = |own: &InterfaceAddress| own.network().contains(address);
    let mut ports = spec.ports.iter();
    let (name, _) = ports.find(|(_, port)| port.addresses.iter().any(on_it))?;
    Some(name)
}

/// The host routes of an address: itself, and the broadcast addresses of its network
/// (RFC 1812, 5.3.5.2; a /31 has none, RFC 3021).
fn own<'a>(address: &InterfaceAddress, port: &'a Name) -> Vec<Path<'a>> {
    let mut paths = Vec::new();
    let mut add = |address: IpAddr, kind| {
        let length = if address.is_ipv4() { 32 } else { 128 };
        let next_hop = NextHop {
            cost: 0,
            kind,
            port: Some(port),
            address: None,
        };
        let prefix = Prefix::containing(address, length);
        paths.extend(prefix.map(|prefix| (prefix, next_hop)));
    };
    if let IpAddr::V4(v4) = address.address()
        && address.length() < 31
    {
        let mask = u32::MAX
            .checked_shr(u32::from(address.length()))
            .unwrap_or(0);
        for broadcast in [u32::from(v4) & !mask, u32::from(v4) | mask] {
            add(Ipv4Addr::from(broadcast).into(), ROUTE_BROADCAST);
        }
    }
    add(address.address(), ROUTE_LOCAL);
    paths
}

/// What the entries of `next_hops` are called that a router needs, each of one number.
pub(super) fn next_hops(spec: &Spec) -> BTreeMap<String, u32> {
    let mut different: BTreeSet<Vec<NextHop<'_>>> = BTreeSet::new();
    each_route(spec, |_, next_hops| {
        if !different.contains(next_hops) {
            different.insert(next_hops.to_vec());
        }
    });
    let mut named = BTreeMap::new();
    for next_hops in different {
        named.extend(next_hops.iter().map(|next_hop| (next_hop.to_string(), 1)));
        if next_hops.len() > 1 {
            named.insert(multipath::name(&next_hops), 1);
        }
    }
    named
}

/// The route tables.
#[derive(Default)]
pub(super) struct Routes {
    pub(super) next_hops: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) groups: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) v4: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) v6: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Routes {
    pub(super) fn of(context: &Context<'_>, spec: &Spec) -> Self {
        let mut routes = Self::default();
        let mut numbers: BTreeMap<Vec<NextHop<'_>>, Option<u32>> = BTreeMap::new();
        each_route(spec, |to, next_hops| {
            let number = match numbers.get(next_hops) {
                Some(number) => *number,
                None => {
                    let number = routes.add_next_hops(context, next_hops);
                    numbers.insert(next_hops.to_vec(), number);
                    number
                }
            };
            if let Some(number) = number {
                routes.add(&to, number);
            }
        });
        routes
    }

    /// One next hop, or several that are chosen from.
    fn add_next_hops(&mut self, context: &Context<'_>, next_hops: &[NextHop<'_>]) -> Option<u32> {
        if let [only] = next_hops {
            return self.add_next_hop(context, *only);
        }
        let members = next_hops.iter();
        let members: Vec<_> = members
            .filter_map(|next_hop| Some((self.add_next_hop(context, *next_hop)?, *next_hop)))
            .collect();
        let name = multipath::name(next_hops);
        let number = context.allocation.number(context.name, &name)?;
        let head = Route {
            kind: ROUTE_GROUP,
            ..Route::default()
        };
        self.next_hops.insert(index(number), bytes(&head));
        let group = multipath::group(context, &members);
        self.groups.insert(index(number), bytes(&group));
        Some(number)
    }

    fn add_next_hop(&mut self, context: &Context<'_>, next_hop: NextHop<'_>) -> Option<u32> {
        let allocation = context.allocation;
        let number = allocation.number(context.name, &next_hop.to_string())?;
        let route = Route {
            kind: next_hop.kind,
            port: match next_hop.port {
                Some(port) => context.port(port)?,
                None => 0,
            },
            next_hop: next_hop.address.map_or(V6::UNSPECIFIED, words),
            cost: next_hop.cost,
        };
        self.next_hops.insert(index(number), bytes(&route));
        Some(number)
    }

    fn add(&mut self, to: &Prefix, next_hop: u32) {
        let length = u32::from(to.length());
        let entry = bytes(&RouteEntry::new(next_hop, to.length()));
        match to.address() {
            IpAddr::V4(address) => {
                let address = V4::new(address.octets());
                let key = bytes(&RouteKeyV4 { length, address });
                self.v4.insert(key, entry);
            }
            IpAddr::V6(address) => {
                let address = V6::new(address.octets());
                let key = bytes(&RouteKeyV6 { length, address });
                self.v6.insert(key, entry);
            }
        }
    }
}

pub(super) fn destination(table: &str, key: &[u8]) -> Option<Prefix> {
    let (length, address) = if table.ends_with("_v4") {
        let key = bytemuck::try_pod_read_unaligned::<RouteKeyV4>(key).ok()?;
        (key.length, Ipv4Addr::from(key.address.bytes()).into())
    } else {
        let key = bytemuck::try_pod_read_unaligned::<RouteKeyV6>(key).ok()?;
        (key.length, Ipv6Addr::from(key.address.bytes()).into())
    };
    Prefix::containing(address, u8::try_from(length).ok()?)
}

/// A route's value as people may read it.
pub(super) fn value(value: &[u8]) -> Option<Value> {
    let entry = bytemuck::try_pod_read_unaligned::<RouteEntry>(value).ok()?;
    Some(format!("next hop {}", entry.next_hop()).into())
}

/// A next hop as people write it, with the number of its port.
pub(super) fn next_hop_value(value: &[u8]) -> Option<Value> {
    let route = bytemuck::try_pod_read_unaligned::<Route>(value).ok()?;
    let port = route.port;
    let text = match route.kind {
        0 => "nothing".to_owned(),
        ROUTE_LOCAL => format!("local, port {port}"),
        ROUTE_CONNECTED => format!("connected, port {port}"),
        ROUTE_BROADCAST => format!("broadcast, port {port}"),
        ROUTE_VIA => format!("via {}, port {port}", either(route.next_hop)),
        ROUTE_GROUP => "one of several".to_owned(),
        ROUTE_BLACKHOLE | ROUTE_UNREACHABLE | ROUTE_PROHIBIT => kind_name(route.kind).to_owned(),
        _ => return None,
    };
    Some(text.into())
}

/// An address of either family: IPv4 in the first word.
fn either(address: V6) -> IpAddr {
    let v6 = Ipv6Addr::from(address.bytes());
    if v6.segments()[2..] == [0; 6] {
        return Ipv4Addr::from(address.v4().bytes()).into();
    }
    v6.into()
}

pub(super) fn next_hop(is_v4: bool, address: V6) -> IpAddr {
    if is_v4 {
        Ipv4Addr::from(address.v4().bytes()).into()
    } else {
        Ipv6Addr::from(address.bytes()).into()
    }
}
