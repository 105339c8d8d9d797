//! Runs the steps of a plan; takes them back when one fails.

use crate::{
    interrupt::Interrupt,
    kernel::{self, Kernel},
    plan::{Op, Phase, Step},
};

/// What came of a plan.
#[derive(Debug)]
pub enum Outcome {
    /// All steps are done. Clean-up steps that failed are listed: traffic is right, and the next
    /// apply tries them again.
    Done {
        /// Clean-up that failed.
        left: Vec<kernel::Error>,
    },
    /// A step failed, and everything before it was taken back.
    RolledBack {
        /// Which step.
        step: Box<Step>,
        /// Why.
        error: kernel::Error,
    },
    /// A step failed, and so did taking back what came before.
    Stuck {
        /// Which step.
        step: Box<Step>,
        /// Why.
        error: kernel::Error,
        /// What could not be taken back.
        undo: Vec<kernel::Error>,
    },
}

/// Runs steps in order. `progress` hears of each step before it runs. An interrupt fails the next step that is not
/// clean-up: what was done is taken back. In clean-up traffic has moved already, so it goes on to its end.
pub fn execute(
    kernel: &mut dyn Kernel,
    steps: &[Step],
    interrupt: &Interrupt,
    mut progress: impl FnMut(usize, &Step),
) -> Outcome {
    let mut left = Vec::new();
    let mut undo: Vec<&Op> = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        progress(number, step);
        tracing::debug!(number, op = ?step.op, "step");
        let stop = interrupt.is_requested() && step.phase != Phase::CleanUp;
        let done = if stop {
            Err(kernel::Error::Interrupted)
        } else {
            kernel.apply(&step.op)
        };
        match done {
            Ok(()) => undo.extend(&step.undo),
            Err(error) if step.phase == Phase::CleanUp => {
                tracing::warn!(%error, address = %step.address, "clean-up failed");
                left.push(error);
            }
            Err(error) => {
                let step = Box::new(step.clone());
                let failed = roll_back(kernel, &undo);
                return if failed.is_empty() {
                    Outcome::RolledBack { step, error }
                } else {
                    Outcome::Stuck {
                        step,
                        error,
                        undo: failed,
                    }
                };
            }
        }
    }
    Outcome::Done { left }
}

fn roll_back(kernel: &mut dyn Kernel, undo: &[&Op]) -> Vec<kernel::Error> {
    undo.iter()
        .rev()
        .filter_map(|op| kernel.apply(op).err())
        .collect()
}
