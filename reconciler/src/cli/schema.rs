//! `pcn schema`

use super::{CommandResult, ExitCode, output};

/// Print the JSON Schema of topology files
#[derive(clap::Args, Debug)]
pub(super) struct Args {}

impl Args {
    #[expect(clippy::unused_self, reason = "as all commands")]
    pub(super) fn run(&self) -> CommandResult {
        output::print_json(&topology_schema::json_schema())?;
        Ok(ExitCode::Done)
    }
}
