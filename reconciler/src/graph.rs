//! The topology as a graph: cubes, interfaces and namespaces' interfaces are nodes, links are
//! edges.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::{
    graph::{NodeIndex, UnGraph},
    visit::{Bfs, EdgeFiltered, NodeFiltered},
};
use topology_schema::{Cube, Endpoint, Hook, InterfaceName, Link, Name, ValidTopology};

use crate::cube::driver_for;

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// A standard cube.
    Cube(Name),
    /// An interface of the host.
    Host(InterfaceName),
    /// An interface in a namespace of ours.
    Namespace(Name, InterfaceName),
}

impl Node {
    fn of(endpoint: &Endpoint) -> Self {
        match endpoint {
            Endpoint::Port { cube, .. } => Self::Cube(cube.clone()),
            Endpoint::Namespace {
                namespace,
                interface,
            } => Self::Namespace(namespace.clone(), interface.clone()),
            Endpoint::Host(interface) => Self::Host(interface.clone()),
        }
    }
}

/// A topology and what follows from its links.
pub struct TopologyGraph<'a> {
    topology: &'a ValidTopology,
    graph: UnGraph<Node, &'a Link>,
    nodes: BTreeMap<Node, NodeIndex>,
    peers: BTreeMap<&'a Endpoint, &'a Endpoint>,
    ports: BTreeMap<&'a Name, BTreeSet<&'a Name>>,
}

impl<'a> TopologyGraph<'a> {
    /// Makes the graph.
    pub fn new(topology: &'a ValidTopology) -> Self {
        let spec = &topology.topology().spec;
        let mut this = Self {
            topology,
            graph: UnGraph::default(),
            nodes: BTreeMap::new(),
            peers: BTreeMap::new(),
            ports: BTreeMap::new(),
        };
        for (name, cube) in &spec.cubes {
            if !cube.kind().is_transparent() {
                this.node(Node::Cube(name.clone()));
                this.ports.insert(name, cube.configured_ports().collect());
            }
        }
        for link in &spec.links {
            let [a, b] = link.endpoints();
            let (from, to) = (this.node(Node::of(a)), this.node(Node::of(b)));
            this.graph.add_edge(from, to, link);
            this.peers.insert(a, b);
            this.peers.insert(b, a);
            for endpoint in [a, b] {
                if let Endpoint::Port { cube, port } = endpoint {
                    this.ports.entry(cube).or_default().insert(port);
                }
            }
        }
        this
    }

    fn node(&mut self, node: Node) -> NodeIndex {
        let graph = &mut self.graph;
        *self
            .nodes
            .entry(node.clone())
            .or_insert_with(|| graph.add_node(node))
    }

    /// The topology.
    pub fn topology(&self) -> &'a ValidTopology {
        self.topology
    }

    /// A cube by its name.
    pub fn cube(&self, name: &Name) -> Option<&'a Cube> {
        let instance = self.topology.topology().spec.cubes.get(name)?;
        Some(&instance.cube)
    }

    /// The other end of an endpoint's link.
    pub fn peer(&self, endpoint: &Endpoint) -> Option<&'a Endpoint> {
        self.peers.get(endpoint).copied()
    }

    /// The ports of a cube: those that are configured and those that links name.
    pub fn ports(&self, cube: &Name) -> impl Iterator<Item = &'a Name> + '_ {
        self.ports.get(cube).into_iter().flatten().copied()
    }

    /// Where a host interface's programs attach.
    pub fn hook(&self, interface: &InterfaceName) -> Hook {
        self.topology
            .topology()
            .spec
            .interfaces
            .get(interface)
            .map_or(Hook::Tc, |interface| interface.hook)
    }

    /// The transparent cubes on a host interface, from the outside in.
    pub fn interface_stack(&self, interface: &InterfaceName) -> &'a [Name] {
        self.topology
            .topology()
            .spec
            .interfaces
            .get(interface)
            .map_or(&[], |interface| &interface.through)
    }

    /// The host interfaces that need programs: those that links name and those with a stack.
    pub fn host_interfaces(&self) -> BTreeSet<&'a InterfaceName> {
        let linked = self.peers.keys().filter_map(|endpoint| match endpoint {
            Endpoint::Host(interface) => Some(interface),
            Endpoint::Port { .. } | Endpoint::Namespace { .. } => None,
        });
        let stacked = self.topology.topology().spec.interfaces.iter();
        linked
            .chain(
                stacked
                    .filter(|(_, settings)| !settings.through.is_empty())
                    .map(|(name, _)| name),
            )
            .collect()
    }

    /// The cubes that packets can reach on XDP: those connected with an interface that has it.
    pub fn xdp_cubes(&self) -> BTreeSet<Name> {
        let mut reached = BTreeSet::new();
        for (node, index) in &self.nodes {
            let Node::Host(interface) = node else {
                continue;
            };
            if self.hook(interface) == Hook::Tc {
                continue;
            }
            let mut walk = Bfs::new(&self.graph, *index);
            while let Some(next) = walk.next(&self.graph) {
                if let Node::Cube(name) = &self.graph[next] {
                    reached.insert(name.clone());
                }
            }
        }
        reached
    }

    /// The endpoints on the same link-layer network as a port of a router: interfaces of
    /// namespaces and ports of other routers, through cubes that do not route.
    pub fn link_neighbors(&self, cube: &Name, port: &Name) -> BTreeSet<&'a Endpoint> {
        let own = Endpoint::Port {
            cube: cube.clone(),
            port: port.clone(),
        };
        let Some(first) = self.peer(&own) else {
            return BTreeSet::new();
        };
        let mut found = BTreeSet::new();
        if self.is_station(first) {
            found.insert(first);
            return found;
        }
        let Some(start) = self.nodes.get(&Node::of(first)) else {
            return found;
        };
        let switches = NodeFiltered::from_fn(&self.graph, |node| self.is_switch(&self.graph[node]));
        let linked = EdgeFiltered::from_fn(&switches, |_| true);
        let mut walk = Bfs::new(&linked, *start);
        while let Some(switch) = walk.next(&linked) {
            for edge in self.graph.edges(switch) {
                for endpoint in edge.weight().endpoints() {
                    if self.is_station(endpoint) && *endpoint != own {
                        found.insert(endpoint);
                    }
                }
            }
        }
        found
    }

    /// The ends of the network behind a port, seen from its cube: what its frames can reach
    /// through cubes that do not route.
    pub fn ends_behind(&self, cube: &Name, port: &Name) -> BTreeSet<&'a Endpoint> {
        let own = Endpoint::Port {
            cube: cube.clone(),
            port: port.clone(),
        };
        let (mut ends, mut seen) = (BTreeSet::new(), BTreeSet::from([cube]));
        let mut open: Vec<&'a Endpoint> = self.peer(&own).into_iter().collect();
        while let Some(endpoint) = open.pop() {
            match endpoint {
                Endpoint::Port { cube, .. } if self.is_switch(&Node::Cube(cube.clone())) => {
                    if seen.insert(cube) {
                        open.extend(self.ports(cube).filter_map(|port| {
                            let port = Endpoint::Port {
                                cube: cube.clone(),
                                port: port.clone(),
                            };
                            self.peer(&port)
                        }));
                    }
                }
                end => {
                    ends.insert(end);
                }
            }
        }
        ends
    }

    /// True for a node that passes frames on without routing them.
    fn is_switch(&self, node: &Node) -> bool {
        match node {
            Node::Cube(name) => self
                .cube(name)
                .is_some_and(|cube| !driver_for(cube.kind()).routes()),
            Node::Host(_) | Node::Namespace(..) => false,
        }
    }

    /// True for an endpoint with link-layer and IP addresses that the topology knows.
    fn is_station(&self, endpoint: &Endpoint) -> bool {
        match endpoint {
            Endpoint::Namespace { .. } => true,
            Endpoint::Port { cube, .. } => self
                .cube(cube)
                .is_some_and(|cube| driver_for(cube.kind()).routes()),
            Endpoint::Host(_) => false,
        }
    }
}
