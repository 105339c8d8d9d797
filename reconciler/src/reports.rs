//! Packets that cubes report, as events.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use topology_schema::Name;

use crate::{
    address::Address,
    cube::{Context, driver_for},
    graph::TopologyGraph,
    journal::{self, Event, Kind},
    kernel::{
        Kernel as _, Result,
        linux::{
            LinuxKernel,
            lock::{Lock, LockError},
            reports::{ReportLog, reporting},
        },
    },
    reconcile,
};

/// What a record says.
pub struct Report {
    /// When, in nanoseconds of the data planes' clock.
    pub time: u64,
    /// What decided, below the cube: `ingress/rules/ssh`.
    pub decided: String,
    /// Of which packet, and what was done.
    pub message: String,
}

/// Reads what the cubes of one topology report. One process at a time: what it has read, no other one reads.
pub struct Reports {
    root: PathBuf,
    topology: Name,
    logs: BTreeMap<Name, ReportLog>,
    lock: Option<Lock>,
    obstacle: Option<String>,
}

impl Reports {
    /// Of a topology that is pinned below `root`.
    pub fn new(root: &Path, topology: &Name) -> Self {
        Self {
            root: root.to_owned(),
            topology: topology.clone(),
            logs: BTreeMap::new(),
            lock: None,
            obstacle: None,
        }
    }

    /// Why nothing is read: another process does it. That is tried again with each call of [`read`](Self::read).
    pub fn obstacle(&self) -> Option<&str> {
        self.obstacle.as_deref()
    }

    fn may_read(&mut self) -> bool {
        if self.lock.is_none() {
            self.obstacle = None;
            match Lock::for_packets(&self.root, &self.topology) {
                Ok(lock) => self.lock = Some(lock),
                Err(LockError::Busy { holder }) => {
                    self.obstacle = Some(holder.unwrap_or_else(|| "another process".to_owned()));
                }
                Err(LockError::Failed(error)) => self.obstacle = Some(error.to_string()),
            }
        }
        self.lock.is_some()
    }

    /// What was reported since the last call, the oldest first. Nothing of what cannot be read.
    pub fn read(&mut self) -> Vec<Event> {
        self.logs.retain(|_, log| log.is_current());
        let cubes = reporting(&self.root, &self.topology);
        if cubes.is_empty() || !self.may_read() {
            return Vec::new();
        }
        for cube in cubes {
            if !self.logs.contains_key(&cube)
                && let Ok(log) = ReportLog::open(&self.root, &self.topology, &cube)
            {
                self.logs.insert(cube, log);
            }
        }
        let mut records = Vec::new();
        for (cube, log) in &mut self.logs {
            log.read(|record| records.push((cube.clone(), record.to_vec())));
        }
        if records.is_empty() {
            return Vec::new();
        }
        self.events(&records).unwrap_or_else(|error| {
            tracing::debug!(topology = %self.topology, %error, "reports not read");
            Vec::new()
        })
    }

    fn events(&self, records: &[(Name, Vec<u8>)]) -> Result<Vec<Event>> {
        let mut kernel = LinuxKernel::new(self.topology.clone(), &self.root)?;
        let Some(record) = kernel.record()? else {
            return Ok(Vec::new());
        };
        let Some(topology) = reconcile::valid(&record) else {
            return Ok(Vec::new());
        };
        let graph = TopologyGraph::new(&topology);
        let now = (kernel.now(), SystemTime::now());
        let mut events = Vec::new();
        for (name, bytes) in records {
            let Some(cube) = graph.cube(name) else {
                continue;
            };
            let context = Context {
                name,
                cube,
                graph: &graph,
                allocation: &record.allocation,
                rules: None,
                down: &record.down,
            };
            let Some(report) = driver_for(cube.kind()).report(&context, bytes) else {
                continue;
            };
            let ago = Duration::from_nanos(now.0.saturating_sub(report.time));
            let time = now.1.checked_sub(ago).unwrap_or(now.1);
            events.push(Event {
                time: journal::time_text(time),
                op: None,
                kind: Kind::Packet,
                topology: self.topology.clone(),
                command: None,
                address: Some(Address::cube(name).below(&report.decided).to_string()),
                message: report.message,
            });
        }
        events.sort_by(|a, b| a.time.cmp(&b.time));
        Ok(events)
    }
}
