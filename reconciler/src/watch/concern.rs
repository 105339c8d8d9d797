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

/// Whom an announcement concerns.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// Topologies to look at.
    pub concerned: BTreeSet<Name>,
    /// An interface that they name came.
    pub came: Vec<(Name, String)>,
    /// It went.
    pub went: Vec<(Name, String)>,
}

#[derive(Debug)]
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

    /// All that are followed.
    pub fn topologies(&self) -> impl Iterator<Item = &Name> {
        self.topologies.keys()
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

    /// Takes note of an announcement. Says whom it concerns.
    pub fn note(&mut self, announcement: Announcement) -> Noted {
        let Announcement { namespace, what } = announcement;
        match (namespace, what) {
            (None, What::Link(link)) => {
                let index = link.index;
                let new = Link::from(link);
                let mut noted = Noted {
                    concerned: self.concerned_by(&new),
                    came: self.named_by(&new),
                    went: Vec::new(),
                };
                let name = new.name.clone();
                if let Some(old) = self.links.insert(index, new) {
                    if old.name == name {
                        noted.came.clear();
                    } else {
                        noted.went = self.named_by(&old);
                    }
                    noted.concerned.extend(self.concerned_by(&old));
                }
                noted
            }
            (None, What::NoLink(link)) => {
                self.links.remove(&link.index);
                let link = Link::from(link);
                Noted {
                    concerned: self.concerned_by(&link),
                    came: Vec::new(),
                    went: self.named_by(&link),
                }
            }
            // A topology's interfaces on the host have no addresses, and others' are not its concern.
            (None, What::Address) => Noted::default(),
            (Some(id), _) => Noted {
                concerned: self
                    .topologies
                    .iter()
                    .filter(|(_, interest)| interest.namespaces.contains(&id))
                    .map(|(name, _)| name.clone())
                    .collect(),
                ..Noted::default()
            },
        }
    }

    /// Topologies that name an interface, each with its name.
    fn named_by(&self, link: &Link) -> Vec<(Name, String)> {
        self.topologies
            .iter()
            .filter(|(_, interest)| interest.interfaces.contains(link.name.as_str()))
            .map(|(topology, _)| (topology.clone(), link.name.clone()))
            .collect()
    }

    /// What a topology finds on the host, as a number.
    pub fn surroundings(&self, topology: &Name) -> Surroundings {
        let mut hasher = DefaultHasher::new();
        if let Some(interest) = self.topologies.get(topology) {
            let ours = mark(topology);
            for (index, link) in &self.links {
                if interest.interfaces.contains(link.name.as_str()) && !link.is_marked(&ours) {
                    (index, &link.name, link.up, link.carrier, link.mtu).hash(&mut hasher);
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
