//! `pcn watch`

use std::{path::PathBuf, time::Duration};

use super::{
    CommandResult, ExitCode, Failure,
    host::{self, HistoryArgs, HostArgs},
};
use crate::watch::{self, Host, Settings};

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
    #[command(flatten)]
    history: HistoryArgs,
    #[command(flatten)]
    host: HostArgs,
}

impl Args {
    pub(super) fn run(&self) -> CommandResult {
        self.host.check()?;
        host::check_features()?;
        let settings = Settings {
            files: self.files.clone(),
            interval: self.interval,
            poll: self.poll,
        };
        let journal = self.host.journal(&self.history);
        let host = Host::new(self.host.bpffs.clone(), journal);
        watch::run(&settings, host, |_| {})
            .map_err(|error| Failure::new(ExitCode::Error, error.to_string()))?;
        Ok(ExitCode::Done)
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
