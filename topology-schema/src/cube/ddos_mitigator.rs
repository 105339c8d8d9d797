//! `ddosMitigator`: drops packets by their source or destination.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::addr::Prefix;
use crate::cube::CubeContext;
use crate::diagnostic::Diagnostic;
use crate::validate::Checker;

/// Most prefixes in one list.
pub const MAX_PREFIXES: usize = 1_000_000;

/// Drops arriving packets (ingress only) whose source or destination is listed. Transparent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a mapping with `sources` and `destinations`"
)]
#[schemars(rename = "DdosMitigator")]
pub struct Spec {
    /// Packets from these networks are dropped. At most 1000000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Prefix>,
    /// Packets to these networks are dropped. At most 1000000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<Prefix>,
}

pub(crate) fn check(spec: &Spec, checker: &mut Checker<'_>, cube: &CubeContext<'_>) {
    for (field, prefixes) in [
        ("sources", &spec.sources),
        ("destinations", &spec.destinations),
    ] {
        let path = cube.path.key(field);
        checker.limit("prefixes", prefixes.len(), MAX_PREFIXES, &path);
        // Overlapping prefixes are fine: a list may come from several feeds. The same one twice is an oversight.
        let mut seen = BTreeSet::new();
        for (index, prefix) in prefixes.iter().enumerate() {
            if !seen.insert(prefix) {
                checker.report(Diagnostic::error(
                    "duplicate-prefix",
                    &path.index(index),
                    format!("{prefix} is listed already"),
                ));
            }
        }
    }
}
