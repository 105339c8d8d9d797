//! Spanning tree of a bridge (IEEE 802.1D-2004, clause 17), for all VLANs or for each.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Spec;
use crate::cube::CubeContext;
use crate::diagnostic::Diagnostic;
use crate::name::Name;
use crate::path::Path;
use crate::quantity::{Bounded, Seconds};
use crate::text::{ValueCode, ValueError, quote, text_type};
use crate::validate::Checker;
use crate::vlan::VlanId;

/// Priority of a bridge: 0 to 61440 in steps of 4096 (IEEE 802.1D-2004, table 17-2).
pub type BridgePriority = Bounded<0, 61440>;
/// Priority of a port: 0 to 240 in steps of 16 (table 17-2).
pub type PortPriority = Bounded<0, 240>;
/// Cost of the path through a port: 1 to 200000000 (table 17-3).
pub type PathCost = Bounded<1, 200_000_000>;

/// Most VLANs of one bridge that have an instance of their own.
pub const MAX_INSTANCES: usize = 63;

/// A VLAN identifier as the key of a mapping, 1 to 4094.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vlan(pub VlanId);

impl fmt::Display for Vlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Vlan {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let plain = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
        let id = text.parse().ok().filter(|_| plain).and_then(VlanId::new);
        id.map(Self).ok_or_else(|| {
            ValueError::new(ValueCode::OutOfRange, format!("{} is no VLAN", quote(text)))
                .help("write a number from 1 to 4094")
        })
    }
}

text_type!(
    Vlan,
    "Vlan",
    expecting "a VLAN such as `10`",
    pattern "^([1-9][0-9]{0,2}|[1-3][0-9]{3}|40[0-8][0-9]|409[0-4])$",
    "VLAN identifier as a key, 1 to 4094."
);

/// Spanning tree of a bridge: RSTP, and STP where a neighbour speaks nothing else. `pcn watch` runs the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a mapping of spanning tree settings"
)]
#[schemars(rename = "BridgeStp")]
pub struct Stp {
    /// Whether the bridge takes part. Default: `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(extend("default" = false))]
    pub enabled: bool,
    /// Priority of the bridge, 0 to 61440 in steps of 4096: the bridge with the lowest becomes the root. Default: 32768.
    #[serde(
        default = "default_priority",
        skip_serializing_if = "is_default_priority"
    )]
    #[schemars(extend("default" = 32_768))]
    pub priority: BridgePriority,
    /// Time in each of the states listening and learning where a neighbour speaks only STP, 4 s to 30 s. Default: `15s`.
    #[serde(
        default = "default_forward_delay",
        skip_serializing_if = "is_default_forward_delay"
    )]
    #[schemars(extend("default" = "15s"))]
    pub forward_delay: Seconds,
    /// Time between two messages of a designated port, 1 s to 10 s. Default: `2s`.
    #[serde(
        default = "default_hello_time",
        skip_serializing_if = "is_default_hello_time"
    )]
    #[schemars(extend("default" = "2s"))]
    pub hello_time: Seconds,
    /// Age at which what the root said is no longer believed, 6 s to 40 s. Default: `20s`.
    #[serde(
        default = "default_max_age",
        skip_serializing_if = "is_default_max_age"
    )]
    #[schemars(extend("default" = "20s"))]
    pub max_age: Seconds,
    /// VLANs with an instance of their own, by VLAN; at most 63. All others follow the common instance.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vlans: BTreeMap<Vlan, StpVlan>,
}

/// A VLAN's own instance of the spanning tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "settings of an instance such as `{ priority: 4096 }`"
)]
#[schemars(rename = "BridgeStpVlan")]
pub struct StpVlan {
    /// Priority of the bridge in this instance, 0 to 61440 in steps of 4096. Default: that of the common instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<BridgePriority>,
}

/// Spanning tree on a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a mapping of spanning tree settings of a port"
)]
#[schemars(rename = "BridgePortStp")]
pub struct PortStp {
    /// Cost of the path through the port, 1 to 200000000. Default: by the speed of its interface, 20000 for 1 Gb/s and
    /// 2000 for 10 Gb/s; 2000 where there is no speed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<PathCost>,
    /// Priority of the port, 0 to 240 in steps of 16: of two links to one bridge, the one with the lower is used.
    /// Default: 128.
    #[serde(
        default = "default_port_priority",
        skip_serializing_if = "is_default_port_priority"
    )]
    #[schemars(extend("default" = 128))]
    pub priority: PortPriority,
    /// Whether the port leads to no bridge: then it forwards at once. Default: found out, in three seconds without an
    /// answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<bool>,
    /// Whether the port is disabled when a bridge is heard there, until it is plugged in again or its settings change.
    /// Default: `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(extend("default" = false))]
    pub bpdu_guard: bool,
    /// What is different in the instances of VLANs, by VLAN.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vlans: BTreeMap<Vlan, PortStpVlan>,
}

/// A port in a VLAN's own instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "settings of a port in an instance such as `{ cost: 100 }`"
)]
#[schemars(rename = "BridgePortStpVlan")]
pub struct PortStpVlan {
    /// Cost of the path through the port, 1 to 200000000. Default: that of the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<PathCost>,
    /// Priority of the port, 0 to 240 in steps of 16. Default: that of the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<PortPriority>,
}

const PRIORITY: BridgePriority = match BridgePriority::new(32768) {
    Some(priority) => priority,
    None => unreachable!(),
};
const PORT_PRIORITY: PortPriority = match PortPriority::new(128) {
    Some(priority) => priority,
    None => unreachable!(),
};

const fn seconds(seconds: u32) -> Seconds {
    match Seconds::new(seconds) {
        Some(seconds) => seconds,
        None => unreachable!(),
    }
}
const FORWARD_DELAY: Seconds = seconds(15);
const HELLO_TIME: Seconds = seconds(2);
const MAX_AGE: Seconds = seconds(20);

impl Default for Stp {
    fn default() -> Self {
        Self {
            enabled: false,
            priority: PRIORITY,
            forward_delay: FORWARD_DELAY,
            hello_time: HELLO_TIME,
            max_age: MAX_AGE,
            vlans: BTreeMap::new(),
        }
    }
}

impl Default for PortStp {
    fn default() -> Self {
        Self {
            cost: None,
            priority: PORT_PRIORITY,
            edge: None,
            bpdu_guard: false,
            vlans: BTreeMap::new(),
        }
    }
}

impl Stp {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl PortStp {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn default_priority() -> BridgePriority {
    PRIORITY
}

fn is_default_priority(priority: &BridgePriority) -> bool {
    *priority == PRIORITY
}

fn default_port_priority() -> PortPriority {
    PORT_PRIORITY
}

fn is_default_port_priority(priority: &PortPriority) -> bool {
    *priority == PORT_PRIORITY
}

fn default_forward_delay() -> Seconds {
    FORWARD_DELAY
}

fn is_default_forward_delay(delay: &Seconds) -> bool {
    *delay == FORWARD_DELAY
}

fn default_hello_time() -> Seconds {
    HELLO_TIME
}

fn is_default_hello_time(time: &Seconds) -> bool {
    *time == HELLO_TIME
}

fn default_max_age() -> Seconds {
    MAX_AGE
}

fn is_default_max_age(age: &Seconds) -> bool {
    *age == MAX_AGE
}

pub(super) fn check(spec: &Spec, checker: &mut Checker<'_>, cube: &CubeContext<'_>) {
    let (stp, path) = (&spec.stp, cube.path.key("stp"));
    step(checker, stp.priority.get(), 4096, || path.key("priority"));
    check_times(stp, checker, &path);
    let vlans = path.key("vlans");
    if !stp.vlans.is_empty() && !spec.is_vlan_aware() {
        let message = "the bridge looks at no VLANs, so none has an instance of its own";
        let help = "give ports `access` or `trunk`, or leave `vlans` out";
        checker.report(Diagnostic::error("unknown-vlan", &vlans, message).help(help));
    }
    checker.limit(
        "VLANs with an instance",
        stp.vlans.len(),
        MAX_INSTANCES,
        &vlans,
    );
    for (vlan, instance) in &stp.vlans {
        if let Some(priority) = instance.priority {
            let path = || vlans.key(&vlan.to_string()).key("priority");
            step(checker, priority.get(), 4096, path);
        }
    }
    for (name, port) in &spec.ports {
        check_port(spec, name, &port.stp, checker, cube);
    }
}

fn check_port(
    spec: &Spec,
    name: &Name,
    stp: &PortStp,
    checker: &mut Checker<'_>,
    cube: &CubeContext<'_>,
) {
    let path = || cube.port_path(name).key("stp");
    step(checker, stp.priority.get(), 16, || path().key("priority"));
    for (vlan, settings) in &stp.vlans {
        let path = || path().key("vlans").key(&vlan.to_string());
        if let Some(priority) = settings.priority {
            step(checker, priority.get(), 16, || path().key("priority"));
        }
        if !spec.stp.vlans.contains_key(vlan) {
            let message = format!("VLAN {vlan} has no instance of its own");
            let help = format!("give it one under `stp`: {{ vlans: {{ {vlan}: {{}} }} }}");
            checker.report(Diagnostic::error("unknown-vlan", &path(), message).help(help));
        }
    }
}

/// Priorities have only their upper bits in messages (9.2.5, 9.2.7).
fn step(checker: &mut Checker<'_>, number: u32, step: u32, path: impl FnOnce() -> Path) {
    if !number.is_multiple_of(step) {
        let message = format!("{number} is no multiple of {step}");
        let below = number - number % step;
        let help = format!("use {below} or {}", below + step);
        checker.report(Diagnostic::error("out-of-range", &path(), message).help(help));
    }
}

/// Ranges (table 17-1, and for the hello time IEEE 802.1D-1998, table 8-3) and what the times must
/// be to one another (17.14).
fn check_times(stp: &Stp, checker: &mut Checker<'_>, path: &Path) {
    let (forward_delay, hello_time, max_age) = (
        stp.forward_delay.get(),
        stp.hello_time.get(),
        stp.max_age.get(),
    );
    let mut in_range = true;
    for (field, value, least, most) in [
        ("forwardDelay", forward_delay, 4, 30),
        ("helloTime", hello_time, 1, 10),
        ("maxAge", max_age, 6, 40),
    ] {
        if value < least || value > most {
            in_range = false;
            let message = format!("{value}s is out of range: expected {least}s to {most}s");
            checker.report(Diagnostic::error("out-of-range", &path.key(field), message));
        }
    }
    if !in_range {
        return;
    }
    if 2 * (forward_delay - 1) < max_age {
        let message = format!(
            "`forwardDelay` of {forward_delay}s is too short for a `maxAge` of {max_age}s: old information could come back \
             when ports forward already"
        );
        let help = format!(
            "2 * (forwardDelay - 1s) must be at least maxAge: use {}s",
            max_age.div_ceil(2) + 1
        );
        checker.report(Diagnostic::error("conflicting-fields", path, message).help(help));
    }
    if max_age < 2 * (hello_time + 1) {
        let message = format!(
            "`maxAge` of {max_age}s is too short for a `helloTime` of {hello_time}s: one lost message would look like a lost root"
        );
        let help = format!(
            "maxAge must be at least 2 * (helloTime + 1s): use {}s",
            2 * (hello_time + 1)
        );
        checker.report(Diagnostic::error("conflicting-fields", path, message).help(help));
    }
}
