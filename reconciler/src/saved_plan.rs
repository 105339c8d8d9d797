//! Plans kept in a file, to be looked at now and applied later, exactly as they are or not at all.
//!
//! A saved plan holds the topology, what the plan looked like, and what it was made against. It is not a list of
//! commands: `apply` plans again from the topology inside, and goes on only if it sees the same kernel and comes to the
//! same steps. So a file that was tampered with can do no more than a topology can.

use std::{
    fmt::Debug,
    io::{self, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use topology_schema::{Endpoint, InterfaceName, Locations, Topology, ValidTopology, validate};

use crate::{
    digest::Digest,
    observed::Observed,
    plan::{Op, Step},
    reconcile::Plan,
    record::Record,
};

/// Version of the file. A new second number adds something; a new first one changes what is there.
pub const FORMAT_VERSION: &str = "1.0";
/// Most bytes of a file that are read.
pub const MAX_BYTES: usize = 4 * topology_schema::MAX_BYTES;
/// What a document says it is.
const KIND: &str = "SavedPlan";

/// A plan from a file.
#[derive(Debug)]
pub struct SavedPlan {
    /// What it leads to.
    pub wanted: ValidTopology,
    /// Version of the `pcn` that made it.
    pub pcn_version: String,
    build: String,
    basis: Basis,
}

/// The document.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    pcn_version: String,
    build: String,
    document: Topology,
    basis: Basis,
}

/// What a plan was made against, and what it comes to: a hash for each part, so that it can be said which part is
/// another one. What changes by itself (learned entries, counters) and what the plan does not use (other interfaces,
/// other namespaces) is in none of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Basis {
    applied: String,
    namespaces: String,
    interfaces: String,
    tables: String,
    programs: String,
    slots: String,
    links: String,
    leftovers: String,
    steps: String,
}

/// Why a file is no saved plan that can be applied.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not JSON.
    #[error("{0}: not a saved plan: {1}; a topology is given with -f")]
    NotJson(String, serde_json::Error),
    /// JSON, but something else.
    #[error("{0}: not a saved plan: {1}; `pcn plan --out FILE` writes one")]
    NotAPlan(String, String),
    /// A format of the future.
    #[error("{0}: format version {1} is not known, this pcn knows {FORMAT_VERSION}; plan again")]
    Version(String, String),
    /// Not as it was written.
    #[error("{0}: the file was changed after it was written; plan again")]
    Changed(String),
    /// The topology inside holds not all rules.
    #[error("{0}: the topology in it is not valid:\n{1}")]
    Invalid(String, String),
}

/// The document of a plan: what people and scripts were shown, and what applying it needs.
pub fn to_json(plan: &Plan, shown: Value) -> Option<Value> {
    let document = Document {
        pcn_version: env!("CARGO_PKG_VERSION").to_owned(),
        build: crate::objects::build(),
        document: plan.wanted.as_ref()?.topology().clone(),
        basis: Basis::of(plan),
    };
    let (Value::Object(shown), Ok(Value::Object(document))) =
        (shown, serde_json::to_value(document))
    else {
        return None;
    };
    let mut whole = serde_json::Map::new();
    whole.insert("formatVersion".to_owned(), FORMAT_VERSION.into());
    whole.insert("kind".to_owned(), KIND.into());
    for (key, value) in shown.into_iter().chain(document) {
        whole.entry(key).or_insert(value);
    }
    let checksum = checksum(&whole);
    whole.insert("checksum".to_owned(), checksum.into());
    Some(Value::Object(whole))
}

/// Writes a file that is there whole or not at all, for its owner only: it tells what the network looks like.
pub fn write(path: &Path, plan: &Value) -> io::Result<()> {
    let directory = path
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    writeln!(file, "{plan:#}")?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// Reads a saved plan from its text; `name` is the file's, for messages.
pub fn parse(name: &str, text: &[u8]) -> Result<SavedPlan, LoadError> {
    let name = name.to_owned();
    let value: Value =
        serde_json::from_slice(text).map_err(|error| LoadError::NotJson(name.clone(), error))?;
    let other = |why: &str| LoadError::NotAPlan(name.clone(), why.to_owned());
    let Value::Object(mut whole) = value else {
        return Err(other("it is no JSON object"));
    };
    if whole.get("kind").and_then(Value::as_str) != Some(KIND) {
        return Err(other("it does not say `\"kind\": \"SavedPlan\"`"));
    }
    let version = whole.get("formatVersion").and_then(Value::as_str);
    let version = version.unwrap_or_default().to_owned();
    if major(&version) != major(FORMAT_VERSION) {
        return Err(LoadError::Version(name, format!("`{version}`")));
    }
    let noted = whole.shift_remove("checksum");
    if noted.as_ref().and_then(Value::as_str) != Some(checksum(&whole).as_str()) {
        return Err(LoadError::Changed(name));
    }
    let document: Document =
        serde_json::from_value(Value::Object(whole)).map_err(|error| other(&error.to_string()))?;
    let (wanted, _) = validate(document.document, &Locations::none()).map_err(|problems| {
        let lines: Vec<String> = problems
            .iter()
            .map(|problem| format!("  {}: {}", problem.path, problem.message))
            .collect();
        LoadError::Invalid(name, lines.join("\n"))
    })?;
    Ok(SavedPlan {
        wanted,
        pcn_version: document.pcn_version,
        build: document.build,
        basis: document.basis,
    })
}

impl SavedPlan {
    /// Why a plan to the same topology, made now, is another one; nothing if it is the same.
    pub fn differences(&self, now: &Plan) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.build != crate::objects::build() {
            reasons.push(format!(
                "it was made by another build of pcn ({}; this is {})",
                self.pcn_version,
                env!("CARGO_PKG_VERSION")
            ));
        }
        let (then, basis) = (&self.basis, Basis::of(now));
        if then.applied != basis.applied {
            reasons.push("another topology was applied (or removed) since".to_owned());
        }
        let parts = [
            ("namespaces", &then.namespaces, &basis.namespaces),
            ("interfaces", &then.interfaces, &basis.interfaces),
            ("tables", &then.tables, &basis.tables),
            ("programs", &then.programs, &basis.programs),
            ("program slots", &then.slots, &basis.slots),
            ("attachments", &then.links, &basis.links),
            ("leftovers", &then.leftovers, &basis.leftovers),
        ];
        let changed: Vec<&str> = parts
            .iter()
            .filter(|(_, then, now)| then != now)
            .map(|(part, ..)| *part)
            .collect();
        if !changed.is_empty() {
            reasons.push(format!("the kernel has other {}", changed.join(", ")));
        }
        if reasons.is_empty() && then.steps != basis.steps {
            reasons.push("it comes to other steps now".to_owned());
        }
        if !reasons.is_empty() {
            let drift = now.changes.drift.iter();
            reasons
                .extend(drift.map(|drift| format!("drift: {}: {}", drift.address, drift.reason)));
        }
        reasons
    }
}

impl Basis {
    fn of(plan: &Plan) -> Self {
        let Observed {
            record,
            interfaces,
            namespaces,
            veths,
            maps,
            programs,
            slots,
            active,
            links,
            unpinned,
            leftovers,
        } = &plan.observed;
        let wanted = plan.wanted.as_ref().map(|wanted| wanted.topology());
        let applied = record.as_ref().map(|record| &*record.topology);
        let used: Vec<&InterfaceName> = wanted.into_iter().chain(applied).flat_map(hosts).collect();
        let interfaces: Vec<_> = interfaces
            .iter()
            .filter(|(name, interface)| interface.ours || used.contains(name))
            .map(|(name, interface)| (name, interface.ifindex, interface.ours))
            .collect();
        let is_named =
            |name| wanted.is_some_and(|wanted| wanted.spec.namespaces.contains_key(name));
        let namespaces: Vec<_> = namespaces
            .iter()
            .filter(|(name, ours)| **ours || is_named(*name))
            .collect();
        let steps: Vec<Step> = plan.steps.iter().map(without_commit).collect();
        Self {
            applied: hash(&record.as_ref().map(settled)),
            namespaces: hash(&namespaces),
            interfaces: hash(&(interfaces, veths)),
            tables: hash(&(maps, unpinned)),
            programs: hash(programs),
            slots: hash(&(slots, active)),
            links: hash(links),
            leftovers: hash(leftovers),
            steps: hash(&steps),
        }
    }
}

/// Interfaces of the host that a topology names.
fn hosts(topology: &Topology) -> impl Iterator<Item = &InterfaceName> {
    let linked = topology.spec.links.iter().flat_map(|link| link.endpoints());
    let linked = linked.filter_map(|endpoint| match endpoint {
        Endpoint::Host(name) => Some(name),
        Endpoint::Port { .. } | Endpoint::Namespace { .. } => None,
    });
    topology.spec.interfaces.keys().chain(linked)
}

/// A record as if nothing waited for a confirmation: that does not change what a plan comes to.
fn settled(record: &Record) -> Record {
    Record {
        pending: None,
        ..record.clone()
    }
}

fn without_commit(step: &Step) -> Step {
    let settle = |op: &Op| match op {
        Op::WriteRecord(record) => Op::WriteRecord(Box::new(settled(record))),
        other => other.clone(),
    };
    Step {
        op: settle(&step.op),
        undo: step.undo.as_ref().map(settle),
        ..step.clone()
    }
}

/// Values are told apart by how they print for debugging, which shows every field. Another build may print them
/// otherwise, but plans of another build are refused anyway.
fn hash(value: &impl Debug) -> String {
    Digest::of(&[&format!("{value:?}")]).text(20)
}

fn checksum(whole: &serde_json::Map<String, Value>) -> String {
    let mut digest = Digest::new();
    for (key, value) in whole {
        digest.add(key.as_bytes());
        digest.add(value.to_string().as_bytes());
    }
    digest.text(20)
}

fn major(version: &str) -> Option<&str> {
    version.split_once('.').map(|(major, _)| major)
}
