//! A `pcn watch` that runs.

use std::fs;

use integration_tests::{command::Running, lab::Lab, wait};
use nix::{
    sys::signal::Signal,
    time::{ClockId, clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};

/// What its log says when a round has changed something.
const APPLIED: &str = "applied topology=";

/// Ended with the lab at the latest.
pub struct Watch<'a> {
    lab: &'a Lab,
    running: Running,
}

impl<'a> Watch<'a> {
    /// Starts it.
    pub fn start(lab: &'a Lab, arguments: &str) -> Self {
        Self {
            lab,
            running: lab.start_pcn(&format!("watch {arguments}")),
        }
    }

    /// Rounds that changed something, up to now.
    pub fn applied(&self) -> usize {
        self.running.stderr().matches(APPLIED).count()
    }

    /// Waits until so many rounds have changed something.
    #[track_caller]
    pub fn wait_for(&mut self, rounds: usize) {
        let found = wait::within(wait::PATIENCE, || {
            assert!(self.running.is_running(), "{}", self.running.stderr());
            (self.applied() >= rounds).then_some(())
        });
        assert!(found.is_some(), "no round: {}", self.running.stderr());
    }

    /// Seconds of CPU that it has used, threads that have ended included.
    pub fn cpu_seconds(&self) -> f64 {
        let process = Pid::from_raw(self.running.pid().cast_signed());
        let clock: ClockId = clock_getcpuclockid(process).expect("it runs");
        let time = clock_gettime(clock).expect("it runs");
        std::time::Duration::from(time).as_secs_f64()
    }

    /// What it has in memory, in MiB, its program included.
    pub fn resident(&self) -> f64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.running.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let value = line.and_then(|line| line.split_whitespace().next());
        let kib: f64 = value
            .and_then(|value| value.parse().ok())
            .expect("Linux tells it");
        kib / 1024.0
    }

    /// Ends it as systemd does, and insists that it ends well.
    #[track_caller]
    pub fn stop(self) {
        self.running.signal(Signal::SIGTERM);
        self.running.end().expect(0);
        self.lab.note_objects();
    }
}
