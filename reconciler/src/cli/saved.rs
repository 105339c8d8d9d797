//! Saved plans, as commands read and write them.

use std::{fs::File, io::Read, path::Path};

use serde_json::Value;

use super::{ExitCode, Failure, output};
use crate::{
    reconcile::Plan,
    saved_plan::{self, MAX_BYTES, SavedPlan},
};

/// Saves a plan with what was shown of it.
pub(super) fn write(path: &Path, plan: &Plan, shown: Value) -> Result<(), Failure> {
    let failed = |why: String| {
        let message = format!("save the plan to {}: {why}", path.display());
        Failure::new(ExitCode::Error, message)
    };
    let document = saved_plan::to_json(plan, shown)
        .ok_or_else(|| failed("only plans to a topology can be saved".to_owned()))?;
    saved_plan::write(path, &document).map_err(|error| failed(error.to_string()))?;
    let path = path.display();
    output::note(&format!(
        "Saved to {path}; `pcn apply {path}` does exactly this."
    ));
    Ok(())
}

/// Reads a saved plan.
pub(super) fn read(path: &Path) -> Result<SavedPlan, Failure> {
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut text))
        .map_err(|error| Failure::new(ExitCode::Error, format!("{}: {error}", path.display())))?;
    let name = path.display().to_string();
    if text.len() > MAX_BYTES {
        let message = format!("{name}: larger than any saved plan ({MAX_BYTES} bytes)");
        return Err(Failure::new(ExitCode::InvalidFile, message));
    }
    saved_plan::parse(&name, &text)
        .map_err(|error| Failure::new(ExitCode::InvalidFile, error.to_string()))
}

/// Refuses a plan that is not the one that was saved.
pub(super) fn check(saved: &SavedPlan, now: &Plan) -> Result<(), Failure> {
    let differences = saved.differences(now);
    if differences.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the saved plan is stale, nothing was changed:\n  {}\nplan again, look at it, and apply that",
        differences.join("\n  ")
    );
    Err(Failure::new(ExitCode::Stale, message))
}
