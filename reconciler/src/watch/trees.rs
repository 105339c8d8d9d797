//! Spanning trees: for each bridge that takes part, an engine between its tables and its links.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd as _, BorrowedFd},
    path::PathBuf,
    time::Duration,
};

use topology_schema::{Cube, Name};

use super::tree::{Links, Tree};
use crate::{
    allocation::Allocation,
    cube::{Context, spanning_tree},
    graph::TopologyGraph,
    kernel::{
        Result,
        linux::{
            netlink::{self, Monitor, Netlink, News},
            trees::Applied,
        },
    },
    reconcile,
};

/// All of them.
pub struct Trees {
    bpffs: PathBuf,
    applied: BTreeMap<Name, Applied>,
    trees: BTreeMap<(Name, Name), Tree>,
    /// Hears when a link comes or goes.
    monitor: Option<Monitor>,
    links: Links,
}

/// Whether a topology has a bridge that takes part.
pub fn wanted(bpffs: &std::path::Path, topology: &Name) -> bool {
    let applied = Applied::read(bpffs, topology, None);
    let applied = applied.ok().flatten().flatten();
    applied.is_some_and(|applied| !bridges(&applied).is_empty())
}

/// The bridges of a topology that take part.
fn bridges(applied: &Applied) -> Vec<Name> {
    let cubes = &applied.record.topology.spec.cubes;
    let takes_part = |cube: &Cube| matches!(cube, Cube::Bridge(spec) if spec.stp.enabled);
    cubes
        .iter()
        .filter(|(_, cube)| takes_part(cube))
        .map(|(name, _)| name.clone())
        .collect()
}

impl Trees {
    /// Of topologies that are pinned below `bpffs`.
    pub fn new(bpffs: PathBuf) -> Self {
        Self {
            bpffs,
            applied: BTreeMap::new(),
            trees: BTreeMap::new(),
            monitor: None,
            links: Links::default(),
        }
    }

    /// True while there is none.
    pub fn is_empty(&self) -> bool {
        self.trees.is_empty()
    }

    /// Begins with what came, and ends with what went.
    pub fn look(&mut self, topologies: &BTreeSet<Name>, report: &mut dyn FnMut(String)) {
        self.trees.retain(|_, tree| tree.is_current());
        for topology in topologies {
            if let Err(error) = self.follow(topology) {
                report(error.to_string());
            }
        }
        if !self.trees.is_empty() && self.monitor.is_none() {
            self.monitor = Monitor::open().ok();
        }
    }

    /// Lets bridges go on giving messages to us, for that long.
    pub fn renew(&mut self, until: Duration, report: &mut dyn FnMut(String)) {
        // Without a monitor, links are asked for.
        if self.monitor.is_none() {
            self.look_at_links(report);
        }
        for tree in self.trees.values_mut() {
            if let Err(error) = tree.renew(until) {
                report(error.to_string());
            }
        }
    }

    /// Takes in what was applied.
    fn follow(&mut self, topology: &Name) -> Result<()> {
        let known = self.applied.get(topology);
        let news = Applied::read(&self.bpffs, topology, known)?;
        let is_new = news.is_some();
        match news {
            Some(Some(applied)) => {
                self.applied.insert(topology.clone(), applied);
            }
            Some(None) => {
                self.applied.remove(topology);
            }
            None => {}
        }
        let Some(applied) = self.applied.get(topology) else {
            return Ok(());
        };
        let wanted = bridges(applied);
        let missing = |cube: &Name| !self.trees.contains_key(&(topology.clone(), cube.clone()));
        if !is_new && !wanted.iter().any(missing) {
            return Ok(());
        }
        self.trees
            .retain(|(of, cube), _| of != topology || wanted.contains(cube));
        let Some(valid) = reconcile::valid(&applied.record) else {
            return Ok(());
        };
        let graph = TopologyGraph::new(&valid);
        let allocation: &Allocation = &applied.record.allocation;
        if let Ok(links) = Links::read() {
            self.links = links;
        }
        for name in wanted {
            let Some(cube) = graph.cube(&name) else {
                continue;
            };
            let context = Context {
                name: &name,
                cube,
                graph: &graph,
                allocation,
                rules: None,
                down: &applied.record.down,
            };
            let interfaces = spanning_tree::interfaces(&context);
            let speeds = self.links.speeds(&interfaces);
            let speed = |port: u32| speeds.get(&port).copied();
            let Some(config) = spanning_tree::config(&context, &speed) else {
                continue;
            };
            let key = (topology.clone(), name.clone());
            match self.trees.get_mut(&key) {
                Some(tree) => tree.configure(config, interfaces, &self.links)?,
                None => {
                    let tree = Tree::start(&self.bpffs, &key, config, interfaces, &self.links)?;
                    self.trees.insert(key, tree);
                }
            }
        }
        Ok(())
    }

    fn look_at_links(&mut self, report: &mut dyn FnMut(String)) {
        if self.trees.is_empty() {
            return;
        }
        match Links::read() {
            Ok(links) => self.links = links,
            Err(error) => return report(error.to_string()),
        }
        for tree in self.trees.values_mut() {
            if let Err(error) = tree.set_links(&self.links) {
                report(error.to_string());
            }
        }
    }

    /// Does what is due.
    pub fn turn(&mut self, report: &mut dyn FnMut(String)) {
        if let Some(monitor) = &mut self.monitor {
            match monitor.read() {
                Ok(News::All(news)) if news.is_empty() => {}
                Ok(News::All(_) | News::Lost) => self.look_at_links(report),
                Err(error) => {
                    report(error.to_string());
                    self.monitor = None;
                }
            }
        }
        for tree in self.trees.values_mut() {
            if let Err(error) = tree.turn() {
                report(error.to_string());
            }
        }
    }

    /// How long there is nothing to do.
    pub fn pause(&self) -> Duration {
        let pauses = self.trees.values().map(Tree::pause);
        pauses.min().unwrap_or(Duration::MAX)
    }

    /// What to wait for.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let monitor = self.monitor.iter().map(|monitor| monitor.as_fd());
        self.trees.values().map(Tree::as_fd).chain(monitor)
    }

    /// Ports keep their states.
    pub fn end(&mut self) {
        for tree in self.trees.values_mut() {
            tree.end();
        }
    }
}

impl Links {
    fn read() -> std::result::Result<Self, netlink::Error> {
        let mut host = Netlink::host()?;
        let links = host.links()?;
        Ok(Self::of(&links))
    }
}
