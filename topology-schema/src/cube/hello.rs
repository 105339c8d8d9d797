//! `hello`: the template of a standard cube.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cube::{CubeContext, PlainPort};
use crate::diagnostic::Diagnostic;
use crate::name::Name;
use crate::validate::Checker;

/// Most ports of a `hello`: with more, "the other port" would be ambiguous.
pub const MAX_HELLO_PORTS: usize = 2;

/// The template of a standard cube: forwards between its ports, of which there are at most two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a mapping with `action` and `ports`"
)]
#[schemars(rename = "Hello")]
pub struct Spec {
    /// What happens to packets. Default: `forward`.
    #[serde(default, skip_serializing_if = "Action::is_default")]
    #[schemars(extend("default" = "forward"))]
    pub action: Action,
    /// Settings of ports, by name. A port exists because a link names it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<Name, PlainPort>,
}

/// What happens to a packet.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "camelCase", expecting = "`forward` or `drop`")]
#[schemars(rename = "HelloAction")]
pub enum Action {
    /// It leaves through the other port.
    #[default]
    Forward,
    /// It is dropped.
    Drop,
}

impl Action {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde calls it with a reference"
    )]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

pub(crate) fn check(_: &Spec, checker: &mut Checker<'_>, cube: &CubeContext<'_>) {
    let ports = cube.ports();
    if ports.len() > MAX_HELLO_PORTS {
        checker.report(Diagnostic::error(
            "too-many-ports",
            &cube.path,
            format!(
                "`{}` has {} ports, but a hello has at most {MAX_HELLO_PORTS}",
                cube.name,
                ports.len()
            ),
        ));
    }
}
