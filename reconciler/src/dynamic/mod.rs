//! Routes that a router takes from a table of the kernel (`routesFrom`): which they are, and how
//! they come into its tables.
//!
//! They are learned state: no plan knows of them. While `pcn watch` runs, [`follow`] writes what
//! happens to a table within moments; `pcn apply` takes what is there, once.

pub mod follow;
mod known;
mod next_hops;
mod resolve;
mod session;
mod write;

use std::{net::IpAddr, path::Path, time::Duration};

use topology_schema::{Cube, Name, cube::router};

pub use self::{known::Known, resolve::Resolver, write::Writer};
use crate::kernel::{
    self, Kernel as _,
    linux::{
        LinuxKernel,
        dynamic::DynamicTables,
        lock::{Lock, LockError},
        netlink::{Netlink, TableRoute},
    },
};
use crate::record::Record;

/// Where a route leads: address and prefix length.
pub type Destination = (IpAddr, u8);

/// How long somebody else's writing is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came of taking over routes, for one router.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// The router.
    pub cube: String,
    /// Routes in its tables.
    pub routes: usize,
    /// Routes that were written or taken away.
    pub changed: usize,
    /// Routes that cannot be used, and why, the first few of them.
    pub pending: Vec<String>,
    /// How many there are of these.
    pub skipped: usize,
}

impl Taken {
    /// Notes a route that cannot be used.
    pub(crate) fn skip(&mut self, (address, length): Destination, why: &str) {
        const TOLD: usize = 3;
        self.skipped += 1;
        if self.pending.len() < TOLD {
            self.pending.push(format!("{address}/{length}: {why}"));
        }
    }

    /// In one sentence, if there is something to say.
    pub fn sentence(&self) -> Option<String> {
        if self.skipped == 0 {
            return None;
        }
        let more = self.skipped - self.pending.len();
        let more = if more == 0 {
            String::new()
        } else {
            format!(" and {more} more")
        };
        let pending = self.pending.join("; ");
        Some(format!(
            "cube/{}: pending: routes from the kernel that lead nowhere yet: {pending}{more}",
            self.cube
        ))
    }
}

/// True if a router of what was applied takes routes.
pub(crate) fn takes(record: &Record) -> bool {
    let mut cubes = record.topology.spec.cubes.values();
    cubes.any(|cube| matches!(&cube.cube, Cube::Router(spec) if !spec.routes_from.is_empty()))
}

/// Routers of what is applied that take routes from elsewhere.
fn routers(kernel: &mut LinuxKernel) -> kernel::Result<Vec<(Name, router::Spec, Resolver)>> {
    let Some(record) = kernel.record()? else {
        return Ok(Vec::new());
    };
    let mut routers = Vec::new();
    for (name, cube) in &record.topology.spec.cubes {
        if let Cube::Router(spec) = &cube.cube
            && !spec.routes_from.is_empty()
        {
            let resolver = Resolver::new(spec, |port| record.allocation.port(name, port));
            routers.push((name.clone(), spec.clone(), resolver));
        }
    }
    Ok(routers)
}

/// Takes what is in the tables of the kernel now, for all routers of a topology.
///
/// # Errors
///
/// The kernel's refusal, or somebody else writes and does not end.
pub fn take(root: &Path, topology: &Name) -> kernel::Result<Vec<Taken>> {
    let mut kernel = LinuxKernel::new(topology.clone(), root)?;
    let routers = routers(&mut kernel)?;
    if routers.is_empty() {
        return Ok(Vec::new());
    }
    let _lock = Lock::for_routes(root, topology, PATIENCE).map_err(|error| match error {
        LockError::Failed(error) => error,
        busy => kernel::Error::Call(busy.to_string()),
    })?;
    let mut taken = Vec::new();
    for (cube, spec, resolver) in routers {
        let mut known = Known::default();
        let mut told = Taken {
            cube: cube.to_string(),
            ..Taken::default()
        };
        for (source, from) in spec.routes_from.iter().enumerate() {
            match read(from) {
                Ok(routes) => {
                    known.replace(source, routes);
                }
                // A namespace that is not there yet has no routes.
                Err(problem) => {
                    told.skipped += 1;
                    told.pending.push(problem);
                }
            }
        }
        let tables = DynamicTables::open(root, topology, &cube)?;
        let mut writer = Writer::open(&tables)?;
        tables.begin_writing();
        writer.converge(&tables, &known, &resolver, &mut told)?;
        taken.push(told);
    }
    Ok(taken)
}

/// Reads one table of the kernel.
fn read(from: &router::RoutesFrom) -> Result<Vec<TableRoute>, String> {
    let netlink = match &from.namespace {
        Some(namespace) => Netlink::in_namespace(namespace.as_str()),
        None => Netlink::host(),
    };
    let routes = netlink.and_then(|mut netlink| netlink.table(from.table.get()));
    routes.map_err(|error| error.to_string())
}
