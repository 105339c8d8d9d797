//! Runs the steps of a plan; takes them back when one fails.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

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
    progress: impl FnMut(usize, &Step),
) -> Outcome {
    kernel.prepare(steps);
    let outcome = run(kernel, steps, interrupt, progress);
    kernel.prepare(&[]);
    outcome
}

fn run(
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
            attempt(kernel, &step.op)
        };
        match done {
            Ok(()) => undo.extend(&step.undo),
            Err(error) if step.phase == Phase::CleanUp => {
                tracing::warn!(%error, address = %step.address, "clean-up failed");
                left.push(error);
            }
            Err(error) => {
                let step = Box::new(step.clone());
                if step.op.may_be_half_done() {
                    undo.extend(&step.undo);
                }
                kernel.prepare(&[]);
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
        .filter_map(|op| attempt(kernel, op).err())
        .collect()
}

/// A panic is a failure like another one: what came before is taken back.
fn attempt(kernel: &mut dyn Kernel, op: &Op) -> kernel::Result<()> {
    catch_unwind(AssertUnwindSafe(|| kernel.apply(op)))
        .unwrap_or_else(|panic| Err(kernel::Error::Panic(message(&*panic))))
}

fn message(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "panic".to_owned(),
    }
}
