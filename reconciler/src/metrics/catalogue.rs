//! All families of metrics, with what they mean: the reference is made from this.

/// What sort of values a family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until what counts starts anew.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How many values were below each of some bounds.
    Histogram,
    /// Always 1: the labels say it.
    Info,
}

/// A family of metrics.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its name, with the unit, without the suffix of its samples (`_total`, `_bucket`, `_info`).
    pub name: &'static str,
    /// Its sort.
    pub kind: Kind,
    /// The unit at the end of the name.
    pub unit: Option<&'static str>,
    /// Its labels, in their order.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

impl Family {
    /// The name without its unit.
    pub(super) fn base(&self) -> &'static str {
        self.unit
            .and_then(|unit| self.name.strip_suffix(unit)?.strip_suffix('_'))
            .unwrap_or(self.name)
    }

    /// Name of its samples.
    pub fn sample(&self) -> String {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge | Kind::Histogram => "",
            Kind::Info => "_info",
        };
        format!("{}{suffix}", self.name)
    }
}

const fn family(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family {
        name,
        kind,
        unit: None,
        labels,
        help,
    }
}

const fn with_unit(family: Family, unit: &'static str) -> Family {
    Family {
        unit: Some(unit),
        ..family
    }
}

const TOPOLOGY: &[&str] = &["topology"];
const PORT: &[&str] = &["topology", "cube", "port"];
const PORT_DIRECTION: &[&str] = &["topology", "cube", "port", "direction"];
const PORT_REASON: &[&str] = &["topology", "cube", "port", "reason"];
const ATTACHMENT_DIRECTION: &[&str] = &["topology", "cube", "attachment", "path", "direction"];
const ATTACHMENT_REASON: &[&str] = &["topology", "cube", "attachment", "path", "reason"];
const MAP: &[&str] = &["topology", "cube", "map"];

/// Declares families, and the list of all of them.
macro_rules! families {
    ($($constant:ident = $family:expr;)*) => {
        $(pub(super) const $constant: Family = $family;)*

        /// All families, in the order of the output.
        pub const FAMILIES: &[Family] = &[$($constant,)*];
    };
}

families! {
    INFO = family("pcn", Kind::Info, &["version", "build"],
        "Version of this pcn, and what stands for its data planes");
    SCRAPE_DURATION = with_unit(family("pcn_scrape_duration_seconds", Kind::Gauge, &[],
        "How long it took to read all of this"), "seconds");
    RECONCILE = family("pcn_reconcile", Kind::Counter, &["topology", "result"],
        "Rounds of this process: unchanged, applied, waiting, busy, failed, notVerified, rolledBack, stuck");
    RECONCILE_DURATION = with_unit(family("pcn_reconcile_duration_seconds", Kind::Histogram, TOPOLOGY,
        "How long rounds of this process took"), "seconds");
    ROLLBACKS = family("pcn_apply_rollbacks", Kind::Counter, TOPOLOGY,
        "Rounds of this process that failed and were taken back, or could not be");
    READABLE = family("pcn_topology_readable", Kind::Gauge, TOPOLOGY,
        "1 if what runs can be read, else 0 and nothing of the topology below is there");
    READY = family("pcn_topology_ready", Kind::Gauge, TOPOLOGY,
        "1 if the condition Ready is True");
    STALLED = family("pcn_topology_stalled", Kind::Gauge, TOPOLOGY,
        "1 if the last attempt to change the topology failed and none succeeded since");
    LOCK_HELD = family("pcn_lock_held", Kind::Gauge, TOPOLOGY,
        "1 while a process changes the topology");
    DRIFT_OBJECTS = family("pcn_drift_objects", Kind::Gauge, TOPOLOGY,
        "Objects that the kernel has otherwise than they were applied");
    PENDING_OBJECTS = family("pcn_pending_objects", Kind::Gauge, TOPOLOGY,
        "Objects that wait for something that is not there");
    GENERATION = family("pcn_topology_generation", Kind::Gauge, TOPOLOGY,
        "Number of the transaction in the history that applied what was applied last");
    LAST_APPLIED = with_unit(family("pcn_last_applied_timestamp_seconds", Kind::Gauge, TOPOLOGY,
        "When something was applied last, by the history, since 1970"), "seconds");
    PORT_UP = family("pcn_port_up", Kind::Gauge, PORT,
        "1 if the port is linked and its link works");
    PORT_PACKETS = family("pcn_port_packets", Kind::Counter, PORT_DIRECTION,
        "Packets that came into a cube at a port (rx) or left it there (tx)");
    PORT_BYTES = with_unit(family("pcn_port_bytes", Kind::Counter, PORT_DIRECTION,
        "Bytes of these packets, with the Ethernet header"), "bytes");
    PORT_DROPS = family("pcn_port_drops", Kind::Counter, PORT_REASON,
        "Packets dropped, by the port they came in at; reasons that happened");
    ATTACHMENT_PACKETS = family("pcn_attachment_packets", Kind::Counter, ATTACHMENT_DIRECTION,
        "Packets that came to a transparent cube at an attachment (rx) or went on from it (tx), on the ingress or egress path");
    ATTACHMENT_BYTES = with_unit(family("pcn_attachment_bytes", Kind::Counter, ATTACHMENT_DIRECTION,
        "Bytes of these packets, with the Ethernet header"), "bytes");
    ATTACHMENT_DROPS = family("pcn_attachment_drops", Kind::Counter, ATTACHMENT_REASON,
        "Packets that a transparent cube dropped; reasons that happened");
    MAP_ENTRIES = family("pcn_map_entries", Kind::Gauge, MAP,
        "Entries in a table of a cube; arrays, which are always full, are left out");
    MAP_CAPACITY = family("pcn_map_capacity", Kind::Gauge, MAP,
        "Entries that the table has room for");
    MAP_FILL_RATIO = family("pcn_map_fill_ratio", Kind::Gauge, MAP,
        "Entries over capacity: at 1 there is no room for one more, except where the least used goes");
}
