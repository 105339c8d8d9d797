//! Driver of `firewall`: its tables and constants.

mod report;
mod rules;
mod sessions;
mod settings;
mod show;

use std::{borrow::Cow, collections::BTreeMap};

use ebpf_abi::{
    chain::{Direction, in_bank},
    classifier::{self, Search},
    firewall::{
        Connection, FRAGMENTS, LOG_BYTES, NO_LOG_BYTES, Rate, RuleCounter, SetKey, State, Work,
        rule_counter,
    },
    flow::{FlowKey, FragmentKey, FragmentPorts},
    router::IcmpBudget,
};
use serde_json::Value;
use topology_schema::{
    Cube,
    cube::firewall::{MAX_PREFIXES, Spec},
};

use super::{Context, CubeDriver, Lowered, Table, Tables};
use crate::{
    classify::{self, RuleNumbers},
    parallel,
    reports::Report,
    resource::{Entries, MapKind, Template},
};

/// Bytes in which the kernel sums what an ICMP error quotes.
const SCRATCH: usize = 2048;

pub(super) struct Driver;

impl CubeDriver for Driver {
    fn object(&self) -> &'static str {
        "firewall"
    }

    fn answers(&self) -> bool {
        true
    }

    fn has_second(&self, cube: &Cube, direction: Direction) -> bool {
        matches!(cube, Cube::Firewall(spec) if settings::leaves(spec, direction))
    }

    fn rule_lists(&self, cube: &Cube) -> Vec<Vec<classify::Rule>> {
        let Cube::Firewall(spec) = cube else {
            return Vec::new();
        };
        // Which numbers sets have makes no difference to those of the rules.
        rules::lists(spec, &|_| 0)
    }

    fn numbered(&self, cube: &Cube) -> BTreeMap<String, u32> {
        let Cube::Firewall(spec) = cube else {
            return BTreeMap::new();
        };
        let sets = spec.sets.keys();
        sets.map(|name| (rules::set_number(name.as_str()), 1))
            .collect()
    }

    fn lower(&self, context: &Context<'_>) -> Lowered {
        let Cube::Firewall(spec) = context.cube else {
            return Lowered::default();
        };
        let none = RuleNumbers::default();
        let numbers = context.allocation.rules(context.name).unwrap_or(&none);
        let set = |name: &str| {
            let number = rules::set_number(name);
            context
                .allocation
                .number(context.name, &number)
                .unwrap_or(0)
        };
        // Without sets, it makes no difference which numbers they have.
        let known = context.rules.filter(|_| spec.sets.is_empty());
        let lists = match known {
            Some(lists) => Cow::Borrowed(lists),
            None => Cow::Owned(rules::lists(spec, &set)),
        };
        let (of_rules, mut tables) = parallel::beside(
            || of_rules(spec, &lists, numbers),
            || classify::tables(&lists, numbers),
        );
        tables.extend(of_rules);
        tables.push(Table::config(
            "sets",
            MapKind::LpmTrie,
            // What comes is written before what goes is deleted. Room that is not used costs nothing.
            2 * MAX_PREFIXES as u32,
            (size_of::<SetKey>(), 4),
            rules::sets(spec, &set),
        ));
        tables.extend(learned(spec));
        let settings = settings::settings(spec, context);
        let bytes = bytemuck::bytes_of(&settings).to_vec();
        Lowered {
            tables,
            globals: BTreeMap::from([("SETTINGS", Template::plain(bytes))]),
        }
    }

    /// As many entries of lines for each rule as now.
    fn grown<'a>(
        &self,
        cube: &Cube,
        (kept, more): (usize, usize),
        entries: &dyn Fn(&str) -> Option<Entries<'a>>,
    ) -> Option<Vec<(&'static str, u32)>> {
        let Cube::Firewall(spec) = cube else {
            return None;
        };
        let chains = spec.chains().map(|(_, chain)| chain.rules.len());
        if chains.iter().filter(|rules| **rules >= kept).count() != 1 {
            return None;
        }
        let now = chains.into_iter().sum::<usize>();
        let rules = classify::room((now + more) as u32);
        let found = entries("lines").map_or(0, classify::in_lines);
        let lines = classifier::lines(classify::room((found * (now + more) / now) as u32));
        let or_one = |has: bool| if has { rules } else { 1 };
        let limits = or_one(settings::is_limited(spec));
        let further = entries("further").is_some_and(|entries| !entries.is_empty());
        Some(vec![
            ("further", in_bank(or_one(further), 0)),
            ("limits", limits),
            ("lines", in_bank(lines, 0)),
            ("rates", in_bank(limits, 0)),
            ("rule_counters", rule_counter(rules)),
            ("rules", in_bank(rules, 0)),
        ])
    }

    fn lists(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("ingress/rules", "name"),
            ("egress/rules", "name"),
            ("sets", ""),
        ]
    }

    fn details(
        &self,
        context: &Context<'_>,
        tables: &dyn Tables,
    ) -> serde_json::Map<String, Value> {
        match context.cube {
            Cube::Firewall(spec) => show::show(spec, context, tables),
            _ => serde_json::Map::new(),
        }
    }

    /// A packet that has found its connection meanwhile goes on; the next one does not find it.
    fn flushed_table(&self, list: &str) -> Option<&'static str> {
        (list == "sessions").then_some("connections")
    }

    fn report(&self, context: &Context<'_>, record: &[u8]) -> Option<Report> {
        match context.cube {
            Cube::Firewall(spec) => report::report(spec, context, record),
            _ => None,
        }
    }
}

/// What is kept of each rule.
fn of_rules(spec: &Spec, lists: &[Vec<classify::Rule>], numbers: &RuleNumbers) -> Vec<Table> {
    let room = classify::room(numbers.limit());
    let limited = settings::is_limited(spec);
    vec![
        Table::banked_rows(
            "rates",
            if limited { room } else { 1 },
            size_of::<Rate>(),
            rules::rates(spec, lists, numbers),
        ),
        Table::learned(
            "rule_counters",
            MapKind::PerCpuArray,
            rule_counter(room),
            (4, size_of::<RuleCounter>()),
        ),
        Table::learned(
            "limits",
            MapKind::Array,
            if limited { room } else { 1 },
            (4, size_of::<u64>()),
        ),
    ]
}

/// What the data plane keeps.
fn learned(spec: &Spec) -> Vec<Table> {
    let log = if settings::is_logged(spec) {
        LOG_BYTES
    } else {
        NO_LOG_BYTES
    };
    vec![
        Table::learned(
            "connections",
            MapKind::PreallocatedHash,
            if spec.conntrack {
                spec.sessions.get()
            } else {
                1
            },
            (size_of::<FlowKey>(), size_of::<Connection>()),
        ),
        Table::learned(
            "fragments",
            MapKind::LruHash,
            FRAGMENTS,
            (size_of::<FragmentKey>(), size_of::<FragmentPorts>()),
        ),
        Table::learned("state", MapKind::Array, 1, (4, size_of::<State>())),
        Table::learned("log", MapKind::RingBuf, log, (0, 0)),
        Table::learned(
            "icmp_budget",
            MapKind::PerCpuArray,
            1,
            (4, size_of::<IcmpBudget>()),
        ),
        Table::learned("scratch", MapKind::PerCpuArray, 1, (4, SCRATCH)),
        Table::learned("search", MapKind::PerCpuArray, 1, (4, size_of::<Search>())),
        Table::learned("work", MapKind::PerCpuArray, 1, (4, size_of::<Work>())),
    ]
}
