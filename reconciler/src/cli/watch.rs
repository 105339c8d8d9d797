//! `pcn watch`

use std::{path::PathBuf, sync::Arc, time::Duration};

use caps::Capability;

use super::{
    CommandResult, ExitCode, Failure,
    host::{self, HistoryArgs, HostArgs},
};
use crate::{
    kernel::linux::privilege,
    metrics::{Listen, Metrics, RoundResult, Server},
    watch::{self, Host, Outcome, Settings},
};

/// Follow files: apply what changes, repair drift, attach interfaces that appear
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Topology file, or directory of *.yaml and *.yml files, whether it exists yet or not; repeats
    #[arg(
        short = 'f',
        long = "file",
        value_name = "FILE",
        required = true,
        env = "PCN_FILE",
        value_parser = followed,
    )]
    files: Vec<PathBuf>,
    /// How often to look for drift that the kernel does not announce: 10s, 5m
    #[arg(long, value_name = "DURATION", env = "PCN_INTERVAL", default_value = "10s", value_parser = period)]
    interval: Duration,
    /// How often to read the files again, even if nothing says that they changed
    #[arg(long, value_name = "DURATION", env = "PCN_POLL", default_value = "30s", value_parser = period)]
    poll: Duration,
    /// Serve metrics to this machine: unix:/run/pcn/metrics.sock, 127.0.0.1:9464 or [::1]:9464
    #[arg(long, value_name = "ADDRESS", env = "PCN_METRICS")]
    metrics: Option<Listen>,
    #[command(flatten)]
    history: HistoryArgs,
    #[command(flatten)]
    host: HostArgs,
}

impl Args {
    pub(super) fn run(&self) -> CommandResult {
        // Files are read again whenever they change, whosever they are.
        privilege::keep(Capability::CAP_DAC_READ_SEARCH);
        self.host.check()?;
        host::check_features()?;
        let settings = Settings {
            files: self.files.clone(),
            interval: self.interval,
            poll: self.poll,
        };
        let journal = self.host.journal(&self.history);
        let host = Host::new(self.host.bpffs.clone(), journal);
        let metrics = Arc::new(Metrics::new(
            self.history.state.directory(),
            &self.host.bpffs,
        ));
        let _server = self.serve(&metrics)?;
        let count = |report: &watch::RoundReport| {
            metrics.round(&report.topology, result(&report.outcome), report.took);
        };
        watch::run(&settings, host, count)
            .map_err(|error| Failure::new(ExitCode::Error, error.to_string()))?;
        Ok(ExitCode::Done)
    }

    fn serve(&self, metrics: &Arc<Metrics>) -> Result<Option<Server>, Failure> {
        let Some(listen) = &self.metrics else {
            return Ok(None);
        };
        let server = Server::start(listen, Arc::clone(metrics)).map_err(|error| {
            Failure::new(
                ExitCode::Error,
                format!("serve metrics at {listen}: {error}"),
            )
        })?;
        tracing::info!(address = %server.address(), "serving metrics");
        Ok(Some(server))
    }
}

/// How a round is counted.
const fn result(outcome: &Outcome) -> RoundResult {
    match outcome {
        Outcome::InStep { changes: 0, .. } => RoundResult::Unchanged,
        Outcome::InStep { .. } => RoundResult::Applied,
        Outcome::Waiting { .. } => RoundResult::Waiting,
        Outcome::Busy(_) => RoundResult::Busy,
        Outcome::Failed(_) => RoundResult::Failed,
        Outcome::NotVerified(_) => RoundResult::NotVerified,
        Outcome::RolledBack(_) => RoundResult::RolledBack,
        Outcome::Stuck(_) => RoundResult::Stuck,
    }
}

/// What can be followed.
fn followed(text: &str) -> Result<PathBuf, String> {
    match text {
        "-" => Err("stdin cannot be followed; name a file or a directory".to_owned()),
        path => Ok(path.into()),
    }
}

/// A duration that is longer than 0.
fn period(text: &str) -> Result<Duration, String> {
    match host::duration(text)? {
        Duration::ZERO => Err("it must be longer than 0".to_owned()),
        period => Ok(period),
    }
}
