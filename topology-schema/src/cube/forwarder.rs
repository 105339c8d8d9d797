//! `forwarder`: sends what enters one port out of another one.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cube::{CubeContext, PlainPort};
use crate::diagnostic::Diagnostic;
use crate::name::Name;
use crate::validate::Checker;

/// Sends what enters one port out of another one. A port without an action drops what enters it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a mapping with `ports` and `actions`"
)]
#[schemars(rename = "Forwarder")]
pub struct Spec {
    /// Settings of ports, by name. A port exists because a link names it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<Name, PlainPort>,
    /// What happens to packets, by the port that they enter.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub actions: BTreeMap<Name, Action>,
}

/// What happens to a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    expecting = "`drop` or a mapping such as `{ forward: p2 }`"
)]
#[schemars(rename = "ForwarderAction")]
pub enum Action {
    /// It leaves through this port.
    Forward(Name),
    /// It is dropped.
    Drop,
}

pub(crate) fn check(spec: &Spec, checker: &mut Checker<'_>, cube: &CubeContext<'_>) {
    let path = cube.path.key("actions");
    for (port, action) in &spec.actions {
        cube.expect_port(checker, port, || path.key(port.as_str()));
        match action {
            Action::Forward(out) if out == port => checker.report(Diagnostic::error(
                "forward-to-itself",
                &path.key(port.as_str()).key("forward"),
                format!("port `{port}` forwards to itself"),
            )),
            Action::Forward(out) => {
                cube.expect_port(checker, out, || path.key(port.as_str()).key("forward"))
            }
            Action::Drop => {}
        }
    }
}
