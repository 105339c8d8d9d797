//! Counters of ports and attachments.

use std::collections::BTreeMap;

use ebpf_abi::counters::{Counters, DropReason};
use serde::Serialize;
use topology_schema::Name;

use crate::{
    kernel::{Entry, Kernel},
    resource::PinPath,
};

/// Packets and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Volume {
    /// Packets.
    pub packets: u64,
    /// Bytes, with the Ethernet header.
    pub bytes: u64,
}

/// What was counted at one place.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Traffic {
    /// Came in.
    pub rx: Volume,
    /// Went out.
    pub tx: Volume,
    /// Dropped, by reason; only those that happened.
    pub drops: BTreeMap<&'static str, u64>,
    /// How fast, where it was looked at twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rates: Option<Rates>,
}

/// How fast something counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// What came in.
    pub rx: Rate,
    /// What went out.
    pub tx: Rate,
}

/// A volume over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// Packets per second.
    pub packets_per_second: f64,
    /// Bits per second, with the Ethernet header.
    pub bits_per_second: f64,
}

impl From<&Counters> for Traffic {
    fn from(counters: &Counters) -> Self {
        let drops = DropReason::ALL
            .iter()
            .map(|reason| (reason.name(), counters.drops[*reason as usize]))
            .filter(|(_, count)| *count > 0)
            .collect();
        Self {
            rx: Volume {
                packets: counters.rx_packets,
                bytes: counters.rx_bytes,
            },
            tx: Volume {
                packets: counters.tx_packets,
                bytes: counters.tx_bytes,
            },
            drops,
            rates: None,
        }
    }
}

/// The counters of a cube by index.
pub(super) struct Table(BTreeMap<u32, Counters>);

impl Table {
    /// Reads them; a table that cannot be read counts nothing, which the cube's state explains.
    pub(super) fn read(kernel: &mut dyn Kernel, cube: &Name) -> Self {
        let path = PinPath::new(&["cubes", cube.as_str(), "counters"]);
        let entries = kernel.read(&path).unwrap_or_default();
        Self(entries.iter().filter_map(sum).collect())
    }

    pub(super) fn at(&self, index: Option<u32>) -> Traffic {
        index
            .and_then(|index| self.0.get(&index))
            .map(Traffic::from)
            .unwrap_or_default()
    }
}

/// One entry, over all CPUs.
fn sum((key, values): &Entry) -> Option<(u32, Counters)> {
    let index = u32::from_ne_bytes(key.as_slice().try_into().ok()?);
    let mut total = Counters::default();
    for value in values {
        total.add(&bytemuck::try_pod_read_unaligned(value).ok()?);
    }
    Some((index, total))
}
