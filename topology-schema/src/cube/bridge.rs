//! `bridge`: a learning Ethernet switch.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::addr::MacAddr;
use crate::cube::CubeContext;
use crate::diagnostic::Diagnostic;
use crate::name::Name;
use crate::quantity::{Bounded, Seconds};
use crate::validate::Checker;

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
    /// Settings of ports, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<Name, Port>,
    /// Static entries of the forwarding table. Learning never moves them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fdb: Vec<FdbEntry>,
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
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            aging_time: default_aging_time(),
            fdb_size: default_fdb_size(),
            ports: BTreeMap::new(),
            fdb: Vec::new(),
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
    }
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
        checker.unicast(Some(entry.mac), || path.index(index).key("mac"));
        if !seen.insert(entry.mac) {
            checker.report(Diagnostic::error(
                "duplicate-entry",
                &path.index(index).key("mac"),
                format!("{} has a static entry already", entry.mac),
            ));
        }
        cube.require_port(checker, &entry.port, || path.index(index).key("port"));
    }
}
