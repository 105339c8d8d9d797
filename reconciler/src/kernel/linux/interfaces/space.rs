//! Reading namespaces.

use std::{collections::BTreeMap, net::IpAddr};

use topology_schema::Name;

use crate::kernel::linux::{
    netlink::{LinkInfo, Netlink, RouteInfo},
    netns,
};

/// What is in a namespace, read with one dump of each kind.
pub(super) struct Space {
    pub(super) links: BTreeMap<u32, LinkInfo>,
    pub(super) addresses: BTreeMap<u32, Vec<(IpAddr, u8)>>,
    pub(super) routes: BTreeMap<u32, Vec<RouteInfo>>,
}

impl Space {
    /// `None` if the namespace is gone or is none.
    pub(super) fn read(name: &Name) -> Option<Self> {
        let mut socket = Netlink::in_namespace(name.as_str()).ok()?;
        let links = socket
            .links()
            .ok()?
            .into_iter()
            .map(|link| (link.index, link))
            .collect();
        Some(Self {
            links,
            addresses: socket.all_addresses().ok()?,
            routes: socket.all_routes().ok()?,
        })
    }

    /// Our mark is the alias of the loopback interface.
    pub(super) fn mark(&self) -> Option<&String> {
        self.links
            .values()
            .find(|link| link.loopback)?
            .alias
            .as_ref()
    }
}

/// Named namespaces whose names a topology could use.
pub(super) fn namespace_names() -> Vec<Name> {
    let Ok(entries) = std::fs::read_dir("/run/netns") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        // A creator that was killed leaves a file without a namespace: the next one takes it.
        .filter(|name: &Name| netns::exists(name.as_str()))
        .collect()
}
