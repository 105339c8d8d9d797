//! `pcn completion`

use clap_complete::Shell;

use super::{CommandResult, ExitCode, output};

/// Print the completion script of a shell
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Which shell
    shell: Shell,
}

impl Args {
    pub(super) fn run(&self) -> CommandResult {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "pcn", &mut script);
        output::print_bytes(&script)?;
        Ok(ExitCode::Done)
    }
}
