//! What systemd is told. Without it, nothing.

use std::time::Duration;

use sd_notify::NotifyState;

use super::state::{Machine, State, Time};

/// What was said last.
#[derive(Debug)]
pub struct Systemd {
    /// Start or reload goes on.
    settling: bool,
    status: String,
    /// How often it wants to hear that this process is alive.
    watchdog: Option<Duration>,
    alive_due: Time,
}

impl Systemd {
    /// From the environment.
    pub fn new() -> Self {
        Self {
            settling: true,
            status: String::new(),
            // Three times as often as it must be.
            watchdog: sd_notify::watchdog_enabled().map(|limit| limit / 3),
            alive_due: Time::ZERO,
        }
    }

    /// A reload begins.
    pub fn reloading(&mut self) {
        self.settling = true;
        match NotifyState::monotonic_usec_now() {
            Ok(now) => say(&[NotifyState::Reloading, now]),
            Err(_) => say(&[NotifyState::Reloading]),
        }
    }

    /// Start or reload is done: each topology had its round.
    pub fn ready(&mut self) {
        if std::mem::take(&mut self.settling) {
            say(&[NotifyState::Ready]);
        }
    }

    /// The end begins.
    pub fn stopping(&self) {
        say(&[NotifyState::Stopping]);
    }

    /// How topologies are, if that has changed.
    pub fn status(&mut self, machine: &Machine) {
        let status = status(machine);
        if status != self.status {
            say(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    /// This process is alive. Said only as often as need be.
    pub fn alive(&mut self, now: Time) {
        if let Some(period) = self.watchdog
            && self.alive_due <= now
        {
            say(&[NotifyState::Watchdog]);
            self.alive_due = now + period;
        }
    }

    /// When to say so again.
    pub fn due(&self) -> Option<Time> {
        self.watchdog.map(|_| self.alive_due)
    }
}

fn say(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::debug!("cannot tell systemd: {error}");
    }
}

/// `2 in step, 1 failing (gateway)`
fn status(machine: &Machine) -> String {
    let named = |wanted: State| -> Vec<&str> {
        machine
            .states()
            .filter(|(_, state)| *state == wanted)
            .map(|(name, _)| name.as_str())
            .collect()
    };
    let mut parts = vec![format!("{} in step", named(State::InStep).len())];
    for (state, text) in [
        (State::New, "not applied yet"),
        (State::Failing, "failing"),
        (State::Quarantined, "rolled back"),
    ] {
        let names = named(state);
        if !names.is_empty() {
            parts.push(format!("{} {text} ({})", names.len(), names.join(", ")));
        }
    }
    parts.join(", ")
}
