//! `pcn graph`

use std::path::PathBuf;

use clap::ValueEnum;
use topology_schema::{Name, Topology};

use super::{CommandResult, ExitCode, files, host::HostArgs, output};
use crate::{cli::render::graph, kernel::Kernel};

/// Draw a topology: what a file says, or what was applied
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Name of a topology that runs
    #[arg(value_name = "NAME", required_unless_present = "files")]
    pub(super) name: Option<Name>,
    /// Topology file, directory of *.yaml and *.yml files, or `-` for stdin; repeats
    #[arg(short = 'f', long = "file", value_name = "FILE", env = "PCN_FILE")]
    pub(super) files: Vec<PathBuf>,
    /// Language of the drawing
    #[arg(short, long, value_enum, default_value_t, env = "PCN_OUTPUT")]
    output: Language,
    #[command(flatten)]
    host: HostArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Language {
    /// Graphviz
    #[default]
    Dot,
    /// For Markdown
    Mermaid,
}

impl Args {
    pub(super) fn run(&self) -> CommandResult {
        let topologies: Vec<Topology> = match &self.name {
            Some(name) => match self.host.open(name)?.record()? {
                Some(record) => vec![Topology::clone(&record.topology)],
                None => return Err(self.host.not_applied(name)?),
            },
            None => files::read(&self.files)?
                .into_iter()
                .map(|input| input.topology.into_inner())
                .collect(),
        };
        for topology in &topologies {
            output::print(&match self.output {
                Language::Dot => graph::dot(topology),
                Language::Mermaid => graph::mermaid(topology),
            })?;
        }
        Ok(ExitCode::Done)
    }
}
