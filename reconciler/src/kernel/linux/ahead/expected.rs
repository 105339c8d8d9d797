//! What of a plan can be made ahead.

use std::{collections::BTreeMap, sync::Arc};

use super::Ahead;
use crate::{
    plan::{Op, Phase, Step},
    resource::{AttachPoint, Attachment, Map, PinPath, Program},
};

/// Of the steps of a plan, what can be made ahead.
#[derive(Default)]
pub(super) struct Expected {
    /// Steps that make or remove interfaces: what comes after may depend on them, and they wait for the same lock as links do.
    pub(super) interfaces: usize,
    pub(super) maps: BTreeMap<PinPath, Map>,
    pub(super) programs: BTreeMap<PinPath, Arc<Program>>,
    pub(super) links: BTreeMap<PinPath, Attachment>,
    /// Nobody knows yet what is pinned: programs are loaded onto maps that are made, too.
    pub(super) foreseen: bool,
}

impl Expected {
    pub(super) fn of(steps: &[Step]) -> Self {
        let mut expected = Self::default();
        for step in steps {
            match &step.op {
                op if Ahead::waits_for(op) && step.phase == Phase::Prepare => {
                    expected.interfaces += 1;
                }
                Op::CreateMap(pin, map) => {
                    expected.maps.insert(pin.clone(), map.clone());
                }
                Op::LoadProgram(pin, program) => {
                    let program = Arc::new(program.clone());
                    expected.programs.insert(pin.clone(), program);
                }
                // XDP would change the way of packets before its time.
                Op::Attach(pin, attachment)
                    if matches!(
                        attachment.point,
                        AttachPoint::TcIngress | AttachPoint::TcEgress
                    ) =>
                {
                    expected.links.insert(pin.clone(), attachment.clone());
                }
                _ => {}
            }
        }
        expected
    }
}
