//! The state of a firewall, read back from its tables.

use std::collections::BTreeMap;

use ebpf_abi::firewall::{RuleCounter, State, default_counter, rule_counter};
use serde_json::{Map, Value, json};
use topology_schema::cube::firewall::{Rule, Spec};

use super::{
    rules::{identity, keys},
    sessions,
};
use crate::{
    classify::RuleNumbers,
    cube::{Context, Tables},
};

/// Rules with what they have decided, connections, and what was lost.
pub(super) fn show(spec: &Spec, context: &Context<'_>, tables: &dyn Tables) -> Map<String, Value> {
    let names = Names::new(spec, context);
    let counters = counters(tables);
    let sessions = sessions::show(tables, &names);
    let mut lists = Map::from_iter([
        ("rules".to_owned(), rules(spec, &names, &counters).into()),
        ("sessions".to_owned(), sessions.into()),
    ]);
    if let Some(state) = state(tables) {
        let values = json!({ "tableFull": state.full, "unreported": state.unreported });
        lists.insert("firewall".to_owned(), values);
    }
    lists
}

/// What rules are called: the indices of their counters, with identity, and their addresses below
/// the cube.
pub(super) struct Names {
    by_counter: BTreeMap<(u32, u32), String>,
}

impl Names {
    pub(super) fn new(spec: &Spec, context: &Context<'_>) -> Self {
        let none = RuleNumbers::default();
        let numbers = context.allocation.rules(context.name).unwrap_or(&none);
        let mut by_counter = BTreeMap::new();
        for ((chain_name, chain), direction) in spec.chains().into_iter().zip(0..) {
            by_counter.insert(
                (default_counter(direction), 0),
                format!("{chain_name}/default"),
            );
            let rules = chain.rules.iter().zip(keys(chain_name, chain)).enumerate();
            for (at, (rule, key)) in rules {
                let Some(slot) = numbers.slot(&key) else {
                    continue;
                };
                by_counter.insert(
                    (rule_counter(slot), identity(&key)),
                    format!("{chain_name}/rules/{}", label(rule, at)),
                );
            }
        }
        Self { by_counter }
    }

    /// What has this index and identity: `ingress/rules/ssh`.
    pub(super) fn get(&self, index: u32, identity: u32) -> Option<&str> {
        let name = self.by_counter.get(&(index, identity));
        name.map(String::as_str)
    }
}

/// The name of a rule, or its place in the list.
fn label(rule: &Rule, at: usize) -> String {
    match &rule.name {
        Some(name) => name.to_string(),
        None => at.to_string(),
    }
}

type Counters = BTreeMap<(u32, u32), (u64, u64)>;

/// Packets and bytes over all CPUs, by index and identity.
fn counters(tables: &dyn Tables) -> Counters {
    let mut sums = Counters::new();
    for (key, values) in tables.entries("rule_counters") {
        let Ok(index) = bytemuck::try_pod_read_unaligned::<u32>(&key) else {
            continue;
        };
        let values = values.iter();
        for value in
            values.filter_map(|value| bytemuck::try_pod_read_unaligned::<RuleCounter>(value).ok())
        {
            let (packets, bytes) = sums.entry((index, value.identity)).or_default();
            *packets += value.packets;
            *bytes += value.bytes;
        }
    }
    sums
}

/// The rules of both chains in their order, each chain with what its default has decided.
fn rules(spec: &Spec, names: &Names, counters: &Counters) -> Vec<Value> {
    let by_name: BTreeMap<&str, (u64, u64)> = names
        .by_counter
        .iter()
        .map(|(index, name)| {
            (
                name.as_str(),
                counters.get(index).copied().unwrap_or_default(),
            )
        })
        .collect();
    let counted = |name: &str| by_name.get(name).copied().unwrap_or_default();
    let mut all = Vec::new();
    for (chain_name, chain) in spec.chains() {
        for (at, rule) in chain.rules.iter().enumerate() {
            let label = label(rule, at);
            let (packets, bytes) = counted(&format!("{chain_name}/rules/{label}"));
            let mut entry = json!({
                "chain": chain_name, "rule": label, "action": rule.action.name(),
                "match": matches(rule), "packets": packets, "bytes": bytes
            });
            if let Some(comment) = &rule.comment {
                entry["comment"] = comment.as_str().into();
            }
            all.push(entry);
        }
        let (packets, bytes) = counted(&format!("{chain_name}/default"));
        all.push(json!({
            "chain": chain_name, "rule": "default", "action": chain.default.name(),
            "match": "", "packets": packets, "bytes": bytes
        }));
    }
    all
}

/// What a rule matches and what it says besides, in words: `protocol tcp destinationPort 80,443`.
fn matches(rule: &Rule) -> String {
    let fields = serde_json::to_value(rule).unwrap_or_default();
    let fields = fields.as_object().into_iter().flatten();
    let shown =
        fields.filter(|(field, _)| !["name", "action", "comment"].contains(&field.as_str()));
    let words = shown.map(|(field, value)| match value {
        Value::Bool(_) => field.clone(),
        value => format!("{field} {}", words(value)),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(","),
        Value::Object(fields) => {
            let fields = fields.iter();
            let words = fields.map(|(field, value)| format!("{field} {}", words(value)));
            words.collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

fn state(tables: &dyn Tables) -> Option<State> {
    let entries = tables.entries("state");
    let value = entries.first()?.1.first()?;
    bytemuck::try_pod_read_unaligned(value).ok()
}
