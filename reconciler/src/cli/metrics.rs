//! `pcn metrics`

use topology_schema::Name;

use super::{
    CommandResult, ExitCode, Failure,
    host::{HostArgs, StateArgs},
    output,
};
use crate::metrics::Metrics;

/// Print metrics once, as OpenMetrics text: packets, drops, tables, drift. `watch --metrics`
/// serves the same, and counts its rounds
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Name of the topology; all without it
    #[arg(value_name = "NAME")]
    name: Option<Name>,
    #[command(flatten)]
    state: StateArgs,
    #[command(flatten)]
    host: HostArgs,
}

impl Args {
    pub(super) fn run(&self) -> CommandResult {
        let topologies = self.host.topologies()?;
        if let Some(name) = &self.name
            && !topologies.contains(name)
        {
            return Err(self.host.not_applied(name)?);
        }
        let metrics = Metrics::new(self.state.directory(), &self.host.bpffs);
        let text = metrics
            .encode(self.name.as_ref())
            .map_err(|error| Failure::new(ExitCode::Error, format!("write metrics: {error}")))?;
        output::print_bytes(text.as_bytes())?;
        Ok(ExitCode::Done)
    }
}
