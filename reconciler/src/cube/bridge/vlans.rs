//! The table `vlans`: which VLANs each port carries, and how.

use ebpf_abi::bridge::{PORT_VLAN_TAGGED, PORT_VLAN_UNAWARE, PortVlans};
use topology_schema::{
    VlanId,
    cube::bridge::{DEFAULT_VLAN, Port, Spec},
};

use crate::cube::{Context, Table};

/// Small where nobody reads it.
pub(super) fn table(spec: &Spec, context: &Context<'_>) -> Table {
    let size = size_of::<PortVlans>();
    if !spec.is_vlan_aware() {
        return Table::banked("vlans", 1, size, Default::default());
    }
    let unset = Port::default();
    let ports = context.linked_ports().into_iter().map(|(name, index)| {
        let port = spec.ports.get(name).unwrap_or(&unset);
        (index, bytemuck::bytes_of(&port_vlans(port)).to_vec())
    });
    Table::banked("vlans", context.capacity(), size, ports.collect())
}

fn port_vlans(port: &Port) -> PortVlans {
    let mut vlans = PortVlans::NONE;
    let untagged = match (port.access, &port.trunk) {
        (Some(access), _) => Some(access),
        (None, Some(trunk)) => {
            vlans.flags = PORT_VLAN_TAGGED;
            let ids = trunk.allowed.ranges().iter().flat_map(|range| range.ids());
            ids.for_each(|id| vlans.add(id));
            trunk.native
        }
        (None, None) => {
            vlans.flags = PORT_VLAN_UNAWARE;
            Some(DEFAULT_VLAN)
        }
    };
    if let Some(untagged) = untagged {
        vlans.untagged = id(untagged);
        vlans.add(vlans.untagged);
    }
    vlans
}

/// The identifier as it is in tags.
pub(super) fn id(vlan: VlanId) -> u16 {
    u16::try_from(vlan.get()).unwrap_or(0)
}
