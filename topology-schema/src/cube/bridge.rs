//! `bridge`: a learning Ethernet switch.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::addr::MacAddr;
use crate::cube::CubeContext;
use crate::diagnostic::Diagnostic;
use crate::name::Name;
use crate::path::Path;
use crate::quantity::{Bounded, PacketRate, Seconds};
use crate::validate::Checker;
use crate::vlan::{VlanId, VlanRange, VlanSet};

pub mod stp;

/// Number of entries of a forwarding table: 16 to 1048576.
pub type FdbSize = Bounded<16, 1_048_576>;

/// A learning Ethernet switch. A port exists because a link names it; `ports` configures it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a mapping of bridge settings"
)]
#[schemars(rename = "Bridge")]
pub struct Spec {
    /// How long a learned address is kept without traffic from it, at least `1s`. Default: `300s`.
    #[serde(
        default = "default_aging_time",
        skip_serializing_if = "is_default_aging_time"
    )]
    #[schemars(extend("default" = "300s"))]
    pub aging_time: Seconds,
    /// Most addresses in the forwarding table, learned and static together, 16 to 1048576. Default: 65536.
    #[serde(
        default = "default_fdb_size",
        skip_serializing_if = "is_default_fdb_size"
    )]
    #[schemars(extend("default" = 65_536))]
    pub fdb_size: FdbSize,
    /// Whether packets for IP multicast groups go only to their members and to routers, as IGMP and MLD messages say
    /// (RFC 4541). Takes effect where a querier is heard, such as a multicast router. Default: `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(extend("default" = false))]
    pub multicast_snooping: bool,
    /// Settings of ports, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<Name, Port>,
    /// Static entries of the forwarding table. Learning never moves them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fdb: Vec<FdbEntry>,
    /// Link-layer address of the bridge itself, unicast: part of its identifier in the spanning tree. Default: chosen
    /// by `pcn`, the same at every apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Spanning tree: keeps frames from going round where links form circles. `pcn watch` runs it.
    #[serde(default, skip_serializing_if = "stp::Stp::is_default")]
    pub stp: stp::Stp,
}

/// Settings of a bridge port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a mapping of port settings"
)]
#[schemars(rename = "BridgePort")]
pub struct Port {
    /// Link-layer address of the port, unicast. Default: chosen by `pcn`, the same at every apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Transparent cubes on the port, from the outside in: the first one meets a packet from the link first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub through: Vec<Name>,
    /// Whether frames from this port are kept from other isolated ports. Default: `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(extend("default" = false))]
    pub isolated: bool,
    /// VLAN of the port: its frames have no tag, and tagged ones from it are dropped. Without `access` and `trunk`
    /// the port is on VLAN 1 and does not look at tags: frames cross with those they have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<VlanId>,
    /// VLANs of the port, told apart by tags (IEEE 802.1Q). Excludes `access`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trunk: Option<Trunk>,
    /// Most frames that the port may send to several ports, by sort. What is more is dropped. Default: no limits.
    #[serde(default, skip_serializing_if = "StormControl::is_unset")]
    pub storm_control: StormControl,
    /// Whether a multicast router is behind the port even if it is not heard: the port gets all packets for groups, and
    /// all reports of members. So do ports that are linked to a `router`. Default: `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(extend("default" = false))]
    pub multicast_router: bool,
    /// Spanning tree on the port.
    #[serde(default, skip_serializing_if = "stp::PortStp::is_default")]
    pub stp: stp::PortStp,
}

/// Most frames per second that a port may send to several ports. Of each sort, those of a tenth of a second may come
/// at once, and one at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "limits such as `{ broadcast: 1000/s }`"
)]
#[schemars(rename = "BridgeStormControl")]
pub struct StormControl {
    /// Frames for all stations. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broadcast: Option<PacketRate>,
    /// Frames for other groups. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multicast: Option<PacketRate>,
    /// Frames for stations that are not in the forwarding table. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_unicast: Option<PacketRate>,
}

impl StormControl {
    /// Whether there is no limit at all.
    #[must_use]
    pub fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

/// The VLANs of a trunk port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a trunk such as `{ allowed: [10, 20-30], native: 1 }`"
)]
#[schemars(rename = "BridgeTrunk")]
pub struct Trunk {
    /// VLANs that the port carries, each with its tag. Default: `all`.
    #[serde(default, skip_serializing_if = "VlanSet::is_all")]
    #[schemars(extend("default" = "all"))]
    pub allowed: VlanSet,
    /// VLAN that the port carries without a tag, whether `allowed` names it or not. Default: none, frames without a tag
    /// are dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<VlanId>,
}

impl Port {
    /// Whether frames of the VLAN pass the port.
    #[must_use]
    pub fn carries(&self, vlan: VlanId) -> bool {
        match (&self.access, &self.trunk) {
            (Some(access), _) => *access == vlan,
            (None, Some(trunk)) => trunk.native == Some(vlan) || trunk.allowed.contains(vlan),
            (None, None) => vlan == DEFAULT_VLAN,
        }
    }
}

/// The VLAN of ports and static entries that name none.
pub const DEFAULT_VLAN: VlanId = match VlanId::new(1) {
    Some(vlan) => vlan,
    None => unreachable!(),
};

fn default_vlan() -> VlanId {
    DEFAULT_VLAN
}

fn is_default_vlan(vlan: &VlanId) -> bool {
    *vlan == DEFAULT_VLAN
}

/// A static entry of the forwarding table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "an entry such as `{ mac: \"02:00:00:00:00:01\", port: p1 }`"
)]
#[schemars(rename = "BridgeFdbEntry")]
pub struct FdbEntry {
    /// The address, unicast.
    pub mac: MacAddr,
    /// The port behind which it is.
    pub port: Name,
    /// The VLAN in which it is, one that the port carries. Default: 1.
    #[serde(default = "default_vlan", skip_serializing_if = "is_default_vlan")]
    #[schemars(extend("default" = 1))]
    pub vlan: VlanId,
}

impl Spec {
    /// Whether the bridge looks at VLAN tags: a port has `access` or `trunk`. All its frames are on VLAN 1 otherwise.
    #[must_use]
    pub fn is_vlan_aware(&self) -> bool {
        let mut ports = self.ports.values();
        ports.any(|port| port.access.is_some() || port.trunk.is_some())
    }
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            aging_time: default_aging_time(),
            fdb_size: default_fdb_size(),
            multicast_snooping: false,
            ports: BTreeMap::new(),
            fdb: Vec::new(),
            mac: None,
            stp: stp::Stp::default(),
        }
    }
}

fn default_aging_time() -> Seconds {
    Seconds::FIVE_MINUTES
}

fn is_default_aging_time(aging_time: &Seconds) -> bool {
    *aging_time == default_aging_time()
}

fn default_fdb_size() -> FdbSize {
    const DEFAULT: FdbSize = match FdbSize::new(65536) {
        Some(size) => size,
        None => unreachable!(),
    };
    DEFAULT
}

fn is_default_fdb_size(size: &FdbSize) -> bool {
    *size == default_fdb_size()
}

pub(crate) fn check(spec: &Spec, checker: &mut Checker<'_>, cube: &CubeContext<'_>) {
    for (name, port) in &spec.ports {
        checker.unicast(port.mac, || cube.port_path(name).key("mac"));
        check_vlans(port, checker, &cube.port_path(name));
        if port.multicast_router && !spec.multicast_snooping {
            let path = cube.port_path(name).key("multicastRouter");
            let message = format!("port `{name}` gets all packets for groups anyway");
            let diagnostic = Diagnostic::warning("no-effect", &path, message);
            checker.report(diagnostic.help("it matters with `multicastSnooping: true`"));
        }
    }
    checker.unicast(spec.mac, || cube.path.key("mac"));
    stp::check(spec, checker, cube);
    let path = cube.path.key("fdb");
    let size = usize::try_from(spec.fdb_size.get()).unwrap_or(usize::MAX);
    if spec.fdb.len() > size {
        checker.report(Diagnostic::error(
            "too-many-entries",
            &path,
            format!(
                "{} static entries do not fit into a forwarding table of {size}",
                spec.fdb.len()
            ),
        ));
    }
    let mut seen = BTreeSet::new();
    for (index, entry) in spec.fdb.iter().enumerate() {
        let path = path.index(index);
        checker.unicast(Some(entry.mac), || path.key("mac"));
        if !seen.insert((entry.vlan, entry.mac)) {
            let on = if spec.is_vlan_aware() {
                format!(" on VLAN {}", entry.vlan)
            } else {
                String::new()
            };
            checker.report(Diagnostic::error(
                "duplicate-entry",
                &path.key("mac"),
                format!("{} has a static entry{on} already", entry.mac),
            ));
        }
        cube.require_port(checker, &entry.port, || path.key("port"));
        check_entry_vlan(spec, entry, checker, cube, &path);
    }
}

fn check_vlans(port: &Port, checker: &mut Checker<'_>, path: &Path) {
    let Some(trunk) = &port.trunk else { return };
    if port.access.is_some() {
        let message = "a port has either `access` or `trunk`";
        checker.report(
            Diagnostic::error("conflicting-fields", &path.key("access"), message)
                .help("`trunk: { native: 10 }` carries VLAN 10 without a tag"),
        );
    }
    let path = path.key("trunk");
    let VlanSet::Ranges(ranges) = &trunk.allowed else {
        return;
    };
    let mut seen: BTreeMap<VlanId, VlanRange> = BTreeMap::new();
    for (index, range) in ranges.iter().enumerate() {
        let path = path.key("allowed").index(index);
        if range.last() < range.first() {
            let message = format!("there is no VLAN in {range}: the first number is the larger");
            let help = format!(
                "write it as {}",
                VlanRange::new(range.last(), range.first())
            );
            checker.report(Diagnostic::error("empty-range", &path, message).help(help));
            continue;
        }
        // Those before do not overlap, so one of them alone can.
        let before = seen.range(..=range.last()).next_back();
        match before.filter(|(_, other)| other.last() >= range.first()) {
            Some((_, other)) => {
                let vlan = range.first().max(other.first());
                let message = format!("VLAN {vlan} is listed already, in {other}");
                checker.report(Diagnostic::error("duplicate-vlan", &path, message));
            }
            None => {
                seen.insert(range.first(), *range);
            }
        }
    }
    if let Some(native) = trunk.native
        && !trunk.allowed.contains(native)
    {
        let message = format!("VLAN {native} is native, and `allowed` does not list it");
        let diagnostic = Diagnostic::warning("native-not-allowed", &path.key("native"), message);
        checker.report(
            diagnostic.help(
                "it is carried all the same, without a tag; list it to show that this is meant",
            ),
        );
    }
}

fn check_entry_vlan(
    spec: &Spec,
    entry: &FdbEntry,
    checker: &mut Checker<'_>,
    cube: &CubeContext<'_>,
    path: &Path,
) {
    let unset = Port::default();
    let port = spec.ports.get(&entry.port).unwrap_or(&unset);
    if !cube.ports().contains(&entry.port) || port.carries(entry.vlan) {
        return;
    }
    let message = format!("port `{}` does not carry VLAN {}", entry.port, entry.vlan);
    let help = match (&port.access, &port.trunk) {
        (Some(access), _) => format!("it is on VLAN {access}: say `vlan: {access}`"),
        (None, Some(_)) => "say one that its `trunk` carries".to_owned(),
        (None, None) => "a port without `access` and `trunk` is on VLAN 1".to_owned(),
    };
    // The default is in no place of its own.
    let place = if is_default_vlan(&entry.vlan) {
        path.key("port")
    } else {
        path.key("vlan")
    };
    checker.absent(
        &[&cube.path.key("ports")],
        Diagnostic::error("vlan-not-carried", &place, message).help(help),
    );
}
