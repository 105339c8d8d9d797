//! Drift: where the kernel differs from what was applied, and what the topology wants done
//! about it.
//!
//! The kernel is compared with the resources of what was applied last, on the host as it was
//! then. What merely follows from something else that is missing is not listed by itself: a
//! program on a map that is gone, a port table entry with the index of an interface that is gone.

mod compare;
mod interfaces;
mod mask;
mod policy;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Map, Value};
use topology_schema::{Endpoint, InterfaceName, ValidTopology};

use crate::{
    address::Address,
    allocation::Allocation,
    change::{self, Action, Change},
    desired::Desired,
    down::down,
    facts::{self, Facts},
    graph::TopologyGraph,
    lowered::{Host, Lowered, Lowerings},
    observed::Observed,
    plan::Step,
    resource::TemplateView,
};

pub use self::policy::{Policy, followed};

/// What was applied last.
pub struct Applied {
    /// Its resources and numbers, on the host as it was then.
    lowered: Arc<Lowered>,
    /// What became of the host's interfaces since.
    events: BTreeMap<InterfaceName, Event>,
    /// Ends of links that something passes again, and those that nothing passes any more; true
    /// for the latter.
    carriers: BTreeMap<Endpoint, bool>,
    /// Its namespaces as facts: values for people.
    namespaces: Facts,
    /// Made by the data planes of this `pcn`: others have other programs.
    same_build: bool,
    /// The record of it is there.
    recorded: bool,
}

/// What happened to an interface of the host. It is followed whatever the topology says of drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// It was missing and is there.
    Appeared,
    /// It was there and is gone.
    Vanished,
    /// Another interface has its name.
    MadeAnew,
}

impl Applied {
    /// Takes what was applied apart, for comparing it with `observed`.
    pub(crate) fn new(
        topology: &ValidTopology,
        allocation: &Arc<Allocation>,
        observed: &Observed,
        lowerings: &mut Lowerings,
    ) -> Self {
        let now_down = down(&TopologyGraph::new(topology), observed);
        let record = observed.record.as_ref();
        let then_down = record.map_or_else(|| now_down.clone(), |record| record.down.clone());
        let everywhere = Host::everywhere(topology, allocation, &then_down);
        let all = &everywhere.present;
        let lowered = lowerings.of(topology, everywhere.clone());
        let events = interfaces::events(all, &lowered.desired, observed);
        let foreign = observed.foreign_interfaces();
        let then: BTreeSet<_> = all
            .iter()
            .filter(|name| match events.get(*name) {
                Some(event) => *event != Event::Appeared,
                None => foreign.contains(*name),
            })
            .cloned()
            .collect();
        let changed = then_down.symmetric_difference(&now_down);
        Self {
            lowered: lowerings.of(topology, everywhere.with(&then)),
            events,
            carriers: changed
                .map(|end| (end.clone(), now_down.contains(end)))
                .collect(),
            namespaces: facts::namespaces(topology.topology()),
            same_build: record.is_none_or(|record| record.build == crate::objects::build()),
            recorded: record.is_some(),
        }
    }

    /// What was desired last; `None` without a record of it.
    pub fn recorded(&self) -> Option<&Desired> {
        self.recorded.then_some(&self.lowered.desired)
    }

    /// The index of an interface; `None` if what refers to it refers to one that is no more.
    fn ifindex(&self, observed: &Observed, name: &InterfaceName) -> Option<u32> {
        if self.events.contains_key(name) {
            return None;
        }
        observed.ifindex(name)
    }
}

/// One difference.
#[derive(Clone, Debug)]
struct Finding {
    /// Of which object or entry.
    address: Address,
    action: Action,
    reason: String,
    /// Which part of it; empty for the whole.
    part: String,
    before: Value,
    after: Value,
}

impl Finding {
    fn update(address: &Address, reason: String) -> Self {
        Self {
            address: address.clone(),
            action: Action::Update,
            reason,
            part: String::new(),
            before: Value::Null,
            after: Value::Null,
        }
    }

    /// Which part of the object it is about, as it is and as it should be.
    fn part(mut self, part: impl Into<String>, before: Value, after: Value) -> Self {
        self.part = part.into();
        self.before = before;
        self.after = after;
        self
    }
}

/// Where the kernel differs from what was applied, object by object and entry by entry.
pub fn find(applied: &Applied, observed: &Observed, steps: &[Step]) -> Vec<Change> {
    let mut findings = compare::compare(applied, observed);
    findings.extend(interfaces::findings(applied));
    if !applied.recorded {
        let reason = "there is no record of what was applied: an apply was interrupted, or the record was removed";
        findings.push(Finding {
            action: Action::Create,
            ..Finding::update(&Address::topology(), reason.to_owned())
        });
    }
    let mut by_address: BTreeMap<Address, Vec<Finding>> = BTreeMap::new();
    for finding in findings {
        by_address
            .entry(finding.address.clone())
            .or_default()
            .push(finding);
    }
    let mut changes: Vec<Change> = by_address
        .into_iter()
        .map(|(address, findings)| merge(address, findings, steps))
        .collect();
    change::sort(&mut changes);
    changes
}

/// Reasons that are spelt out of one object.
const REASONS: usize = 3;

/// All that is to be said of one address.
fn merge(address: Address, findings: Vec<Finding>, steps: &[Step]) -> Change {
    let action = findings
        .iter()
        .map(|finding| finding.action)
        .min()
        .unwrap_or(Action::Update);
    let mut reasons: Vec<&str> = Vec::new();
    for finding in &findings {
        if !reasons.contains(&finding.reason.as_str()) {
            reasons.push(&finding.reason);
        }
    }
    let mut reason = reasons[..reasons.len().min(REASONS)].join("; ");
    if reasons.len() > REASONS {
        reason.push_str(&format!("; {} more", reasons.len() - REASONS));
    }
    let (before, after) = match findings.as_slice() {
        [only] if only.part.is_empty() => (only.before.clone(), only.after.clone()),
        parts => {
            let side = |value: fn(&Finding) -> &Value| {
                let named = parts.iter().filter(|finding| !finding.part.is_empty());
                let side: Map<String, Value> = named
                    .map(|finding| (finding.part.clone(), value(finding).clone()))
                    .collect();
                if side.is_empty() {
                    Value::Null
                } else {
                    Value::Object(side)
                }
            };
            (
                side(|finding| &finding.before),
                side(|finding| &finding.after),
            )
        }
    };
    Change {
        disruption: change::disruption(&address, action, steps),
        address,
        action,
        reason,
        before: before.into(),
        after: after.into(),
        mode: Some(topology_schema::Drift::Repair),
    }
}

/// True if bytes are what a template comes to. Indices of interfaces that are no more are not
/// compared: what they were cannot be known.
fn matches(
    template: TemplateView<'_>,
    running: &[u8],
    ifindex: impl Fn(&InterfaceName) -> Option<u32>,
) -> bool {
    let mut wanted = Cow::Borrowed(template.bytes);
    if wanted.len() != running.len() {
        return false;
    }
    for (offset, name) in template.ifindexes {
        let range = *offset..*offset + 4;
        let index = ifindex(name).map(u32::to_ne_bytes);
        let bytes = index
            .as_ref()
            .map_or(&running[range.clone()], |index| index);
        wanted.to_mut()[range].copy_from_slice(bytes);
    }
    *wanted == *running
}
