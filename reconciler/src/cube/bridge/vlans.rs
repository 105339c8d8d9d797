//! The table `vlans`: which VLANs each port carries, and how.

use ebpf_abi::bridge::{PORT_VLAN_TAGGED, PORT_VLAN_UNAWARE, PortVlans};
use serde_json::{Map, Value};
use topology_schema::{
    Name, VlanId,
    cube::bridge::{DEFAULT_VLAN, Port, Spec, Trunk},
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

/// The VLANs of a port, for people and scripts.
pub(super) fn details(spec: &Spec, port: &Name) -> Map<String, Value> {
    let unset = Port::default();
    let port = spec.ports.get(port).unwrap_or(&unset);
    let (untagged, tagged) = match (port.access, &port.trunk) {
        (Some(access), _) => (Some(access), Vec::new()),
        (None, Some(trunk)) => (trunk.native, tagged(trunk)),
        (None, None) => (Some(DEFAULT_VLAN), Vec::new()),
    };
    let mut vlans = Map::new();
    if let Some(untagged) = untagged {
        vlans.insert("untagged".to_owned(), untagged.get().into());
    }
    if !tagged.is_empty() {
        vlans.insert("tagged".to_owned(), tagged.into());
    }
    Map::from_iter([("vlans".to_owned(), vlans.into())])
}

/// The ranges of a trunk, without its native VLAN.
fn tagged(trunk: &Trunk) -> Vec<Value> {
    let mut ranges = trunk.allowed.ranges().to_vec();
    ranges.sort_unstable();
    let native = trunk.native.map_or(0, VlanId::get);
    let parts = ranges.into_iter().flat_map(|range| {
        let (first, last) = (range.first().get(), range.last().get());
        if (first..=last).contains(&native) {
            vec![(first, native - 1), (native + 1, last)]
        } else {
            vec![(first, last)]
        }
    });
    parts
        .filter(|(first, last)| first <= last)
        .map(|(first, last)| {
            if first == last {
                first.into()
            } else {
                format!("{first}-{last}").into()
            }
        })
        .collect()
}

/// The identifier as it is in tags.
pub(super) fn id(vlan: VlanId) -> u16 {
    u16::try_from(vlan.get()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use topology_schema::{Cube, Source, load};

    use super::*;

    #[test]
    fn details_say_what_has_a_tag() {
        let text = "apiVersion: pcn.dev/v1alpha1\nkind: Topology\nmetadata: { name: t }\nspec:\n  cubes:\n    b:\n      bridge:\n        \
            ports:\n          a: { access: 10 }\n          b: { trunk: { native: 5 } }\n          \
            c: { trunk: { allowed: [30-40, 7, 1-2], native: 30 } }\n  \
            links: [[b:a, eth0], [b:b, eth1], [b:c, eth2], [b:d, eth3]]\n";
        let source = Source {
            name: "t.yaml".to_owned(),
            text: text.to_owned(),
        };
        let (topology, _) = load(&source).expect("a valid topology");
        let Cube::Bridge(spec) = &topology.spec.cubes["b"].cube else {
            panic!("a bridge");
        };
        let details = |port: &str| Value::from(details(spec, &port.parse().expect("a name")));
        for (port, vlans) in [
            ("a", json!({ "untagged": 10 })),
            ("b", json!({ "untagged": 5, "tagged": ["1-4", "6-4094"] })),
            (
                "c",
                json!({ "untagged": 30, "tagged": ["1-2", 7, "31-40"] }),
            ),
            ("d", json!({ "untagged": 1 })),
        ] {
            assert_eq!(details(port), json!({ "vlans": vlans }), "{port}");
        }
    }
}
