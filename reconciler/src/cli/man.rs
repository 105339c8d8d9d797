//! `pcn man`

use super::{CommandResult, ExitCode, Failure, output};

/// Print the manual in roff, commands included: `pcn man | man -l -`
#[derive(clap::Args, Debug)]
pub(super) struct Args {}

impl Args {
    #[expect(clippy::unused_self, reason = "as all commands")]
    pub(super) fn run(&self) -> CommandResult {
        let mut page = Vec::new();
        render(&mut page)
            .map_err(|error| Failure::new(ExitCode::Error, format!("manual: {error}")))?;
        output::print_bytes(&page)?;
        Ok(ExitCode::Done)
    }
}

fn render(page: &mut Vec<u8>) -> std::io::Result<()> {
    let mut command = super::command().disable_help_subcommand(true);
    command.build();
    clap_mangen::Man::new(command.clone()).render(page)?;
    page.extend_from_slice(b".SH \"EXIT STATUS\"\n");
    for code in ExitCode::ALL {
        page.extend_from_slice(format!(".TP\n{}\n{}\n", code.number(), code.meaning()).as_bytes());
    }
    for sub in command.get_subcommands() {
        section(page, sub, sub.get_name())?;
        for below in sub.get_subcommands() {
            let name = format!("{} {}", sub.get_name(), below.get_name());
            section(page, below, &name)?;
        }
    }
    Ok(())
}

fn section(page: &mut Vec<u8>, command: &clap::Command, name: &str) -> std::io::Result<()> {
    let title = format!(".SH \"PCN {}\"\n", name.to_uppercase());
    page.extend_from_slice(title.as_bytes());
    let man = clap_mangen::Man::new(command.clone());
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)
}
