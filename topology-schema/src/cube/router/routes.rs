//! Static routes.

use std::collections::{HashMap, hash_map::Entry};
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Spec;
use crate::addr::{Prefix, RouteTarget, ip_text};
use crate::diagnostic::Diagnostic;
use crate::path::Path;
use crate::quantity::Bounded;
use crate::validate::{Checker, RouteCheck};

/// Most next hops for one prefix.
const MAX_NEXT_HOPS: usize = 64;

/// A static route: to a next hop (`via`) or to nowhere (`type`). Of several routes to one prefix
/// those of the least cost count whose next hop can be reached; there may be several of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a route such as `{ to: default, via: 10.0.0.1 }`"
)]
#[schemars(rename = "RouterRoute")]
pub struct Route {
    /// Where the route leads: `default` or a network prefix.
    pub to: RouteTarget,
    /// Next hop: an address on a network of one of the ports.
    #[serde(
        default,
        with = "ip_text::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<ip_text::IpText>")]
    pub via: Option<IpAddr>,
    /// What becomes of packets instead of a next hop. The target has to be a prefix.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub special: Option<SpecialRoute>,
    /// The lower, the better: 1 to 4294967295. Flows are spread over next hops of equal cost. Default: 1.
    #[serde(default = "default_cost", skip_serializing_if = "is_default_cost")]
    #[schemars(extend("default" = 1))]
    pub cost: Cost,
}

impl Route {
    /// The network that is meant; `None` where its family is not known.
    #[must_use]
    pub fn prefix(&self) -> Option<Prefix> {
        match (self.to, self.via) {
            (RouteTarget::Prefix(prefix), _) => Some(prefix),
            (RouteTarget::Default, Some(via)) => Some(self.to.prefix(via)),
            (RouteTarget::Default, None) => None,
        }
    }
}

/// What a route costs.
pub type Cost = Bounded<1, { u32::MAX }>;

const fn default_cost() -> Cost {
    const LEAST: Cost = match Cost::new(1) {
        Some(cost) => cost,
        None => unreachable!(),
    };
    LEAST
}

fn is_default_cost(cost: &Cost) -> bool {
    *cost == default_cost()
}

/// What becomes of packets on a route without a next hop.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(
    rename_all = "lowercase",
    expecting = "`blackhole`, `unreachable` or `prohibit`"
)]
#[schemars(rename = "RouterSpecialRoute")]
pub enum SpecialRoute {
    /// They are dropped without a word.
    Blackhole,
    /// The sender is told that the destination cannot be reached.
    Unreachable,
    /// The sender is told that it is forbidden.
    Prohibit,
}

impl SpecialRoute {
    /// As the file has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blackhole => "blackhole",
            Self::Unreachable => "unreachable",
            Self::Prohibit => "prohibit",
        }
    }
}

pub(super) fn check(
    spec: &Spec,
    next_hops: &RouteCheck<'_>,
    checker: &mut Checker<'_>,
    path: &Path,
) {
    let mut seen: HashMap<Prefix, usize> = HashMap::with_capacity(spec.routes.len());
    let mut several: HashMap<Prefix, Vec<usize>> = HashMap::new();
    for (index, route) in spec.routes.iter().enumerate() {
        let place = || path.index(index);
        match (route.via, route.special) {
            (Some(via), None) => next_hops.check(checker, route.to, via, place),
            (Some(_), Some(special)) => {
                let message = format!("a route of type `{}` has no next hop", special.name());
                let diagnostic =
                    Diagnostic::error("conflicting-fields", &place().key("via"), message);
                checker.report(diagnostic.help("leave out `via`, or `type`"));
            }
            (None, Some(special)) if route.prefix().is_none() => {
                let message = format!(
                    "`default` is of the family of the next hop, and a route of type `{}` has none",
                    special.name()
                );
                let diagnostic = Diagnostic::error("missing-family", &place().key("to"), message);
                checker.report(diagnostic.help("write 0.0.0.0/0 or \"::/0\""));
            }
            (None, Some(_)) => {}
            (None, None) => {
                let diagnostic =
                    Diagnostic::error("missing-field", &place(), "`via` is missing".to_owned());
                // Unless one of them is there and cannot be read.
                checker.absent(
                    &[&place().key("via"), &place().key("type")],
                    diagnostic.help(
                        "a route without a next hop has a `type`: `blackhole`, `unreachable` or `prohibit`",
                    ),
                );
            }
        }
        if let Some(prefix) = route.prefix() {
            match seen.entry(prefix) {
                Entry::Vacant(first) => {
                    first.insert(index);
                }
                Entry::Occupied(first) => {
                    let others = several.entry(prefix).or_insert_with(|| vec![*first.get()]);
                    check_others(spec, index, &prefix, others, checker, path);
                    others.push(index);
                }
            }
        }
    }
}

/// The rules on routes to one prefix. `others` are those that were written before.
fn check_others(
    spec: &Spec,
    index: usize,
    prefix: &Prefix,
    others: &[usize],
    checker: &mut Checker<'_>,
    path: &Path,
) {
    let route = &spec.routes[index];
    let place = path.index(index);
    let find = |is: &dyn Fn(&Route) -> bool| {
        let mut others = others.iter().copied();
        others.find(|other| is(&spec.routes[*other]))
    };
    let same = |other: &Route| {
        other.via == route.via && other.special.is_some() == route.special.is_some()
    };
    // Where packets are to go and be dropped alike, nothing can be meant.
    let undecided = |other: &Route| {
        other.cost == route.cost && other.special.is_some() != route.special.is_some()
    };
    let (message, other) = if let Some(other) = find(&same) {
        let message = match route.via {
            Some(via) => format!("there is a route to {prefix} via {via} already"),
            None => format!("there is a route to {prefix} without a next hop already"),
        };
        (message, other)
    } else if let Some(other) = find(&undecided) {
        let message = format!(
            "a route to {prefix} with a next hop and one without have the same cost, {}",
            route.cost
        );
        (message, other)
    } else {
        if others.len() == MAX_NEXT_HOPS {
            checker.limit(
                "routes to one prefix",
                others.len() + 1,
                MAX_NEXT_HOPS,
                &place,
            );
        }
        return;
    };
    let other = checker.refer_to(&path.index(other));
    let diagnostic = Diagnostic::error("duplicate-route", &place.key("to"), message);
    checker.report(diagnostic.help(format!("the other one is {other}")));
}
