//! `helloTransparent`: the template of a transparent cube.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cube::CubeContext;
use crate::validate::Checker;

/// The template of a transparent cube: lets packets pass or drops them, by direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a mapping with `ingressAction` and `egressAction`"
)]
#[schemars(rename = "HelloTransparent")]
pub struct Spec {
    /// What happens to packets towards the owner of the port or interface. Default: `pass`.
    #[serde(default, skip_serializing_if = "Action::is_default")]
    #[schemars(extend("default" = "pass"))]
    pub ingress_action: Action,
    /// What happens to packets away from the owner of the port or interface. Default: `pass`.
    #[serde(default, skip_serializing_if = "Action::is_default")]
    #[schemars(extend("default" = "pass"))]
    pub egress_action: Action,
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
#[serde(rename_all = "camelCase", expecting = "`pass` or `drop`")]
#[schemars(rename = "HelloTransparentAction")]
pub enum Action {
    /// It goes on.
    #[default]
    Pass,
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

/// Every combination of settings makes sense.
pub(crate) fn check(_: &Spec, _: &mut Checker<'_>, _: &CubeContext<'_>) {}
