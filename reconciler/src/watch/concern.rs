//! Which topologies an announcement of the kernel concerns. Most concern none.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use topology_schema::{InterfaceName, Name, ValidTopology};

use super::state::Surroundings;
use crate::{
    graph::TopologyGraph,
    kernel::linux::netlink::{Announcement, LinkInfo, What},
};

/// What is known of the host's interfaces, and what topologies have to do with them.
#[derive(Debug, Default)]
pub struct Concerns {
    /// The host's interfaces by number.
    links: BTreeMap<u32, Link>,
    topologies: BTreeMap<Name, Interest>,
}

#[derive(Debug, Hash)]
struct Link {
    name: String,
    alias: Option<String>,
    up: bool,
    carrier: bool,
    mtu: u32,
}

#[derive(Debug, Default)]
struct Interest {
    /// Interfaces of the host that the topology names.
    interfaces: BTreeSet<InterfaceName>,
    /// The kernel's numbers of its namespaces.
    namespaces: BTreeSet<i32>,
}

impl Concerns {
    /// A topology names these interfaces from now on.
    pub fn follow(&mut self, topology: &ValidTopology) {
        let name = &topology.topology().metadata.name;
        let interest = self.topologies.entry(name.clone()).or_default();
        interest.interfaces = TopologyGraph::new(topology)
            .host_interfaces()
            .into_iter()
            .cloned()
            .collect();
    }

    /// The topology's namespaces have these numbers.
    pub fn set_namespaces(&mut self, topology: &Name, ids: BTreeSet<i32>) {
        if let Some(interest) = self.topologies.get_mut(topology) {
            interest.namespaces = ids;
        }
    }

    /// Everything there is, instead of what was known.
    pub fn set_links(&mut self, links: Vec<LinkInfo>) {
        self.links = links
            .into_iter()
            .map(|link| (link.index, Link::from(link)))
            .collect();
    }

    /// Takes note of an announcement. Says which topologies it concerns.
    pub fn note(&mut self, announcement: Announcement) -> BTreeSet<Name> {
        let Announcement { namespace, what } = announcement;
        match (namespace, what) {
            (None, What::Link(link)) => {
                let index = link.index;
                let new = Link::from(link);
                let mut concerned = self.concerned_by(&new);
                // Under its old name it was of somebody's concern, perhaps.
                if let Some(old) = self.links.insert(index, new) {
                    concerned.extend(self.concerned_by(&old));
                }
                concerned
            }
            (None, What::NoLink(link)) => {
                self.links.remove(&link.index);
                self.concerned_by(&Link::from(link))
            }
            // A topology's interfaces on the host have no addresses, and others' are not its concern.
            (None, What::Address) => BTreeSet::new(),
            (Some(id), _) => self
                .topologies
                .iter()
                .filter(|(_, interest)| interest.namespaces.contains(&id))
                .map(|(name, _)| name.clone())
                .collect(),
        }
    }

    /// What a topology finds on the host, as a number.
    pub fn surroundings(&self, topology: &Name) -> Surroundings {
        let mut hasher = DefaultHasher::new();
        if let Some(interest) = self.topologies.get(topology) {
            let ours = mark(topology);
            for (index, link) in &self.links {
                if interest.interfaces.contains(link.name.as_str()) && !link.is_marked(&ours) {
                    (index, link).hash(&mut hasher);
                }
            }
        }
        hasher.finish()
    }

    fn concerned_by(&self, link: &Link) -> BTreeSet<Name> {
        self.topologies
            .iter()
            .filter(|(name, interest)| {
                interest.interfaces.contains(link.name.as_str()) || link.is_marked(&mark(name))
            })
            .map(|(name, _)| name.clone())
            .collect()
    }
}

impl Link {
    fn is_marked(&self, mark: &str) -> bool {
        self.alias
            .as_ref()
            .is_some_and(|alias| alias.starts_with(mark))
    }
}

/// How the aliases of a topology's interfaces begin.
fn mark(topology: &Name) -> String {
    format!("pcn:{topology}:")
}

impl From<LinkInfo> for Link {
    fn from(link: LinkInfo) -> Self {
        Self {
            name: link.name,
            alias: link.alias,
            up: link.up,
            carrier: link.carrier,
            mtu: link.mtu,
        }
    }
}
