//! Waiting in a command that goes on until it is told to end.

use std::{
    io::{self, Stdout},
    os::fd::AsFd,
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

/// Takes the signals that ask this process to end, so that it ends in its own time.
#[derive(Debug)]
pub struct Pause {
    signals: SignalFd,
    stdout: Stdout,
}

impl Pause {
    /// From now on SIGINT and SIGTERM only wake [`Pause::wait`]. Threads started later inherit
    /// that.
    pub fn new() -> io::Result<Self> {
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
        signals.thread_block()?;
        Ok(Self {
            signals: SignalFd::with_flags(
                &signals,
                SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
            )?,
            stdout: io::stdout(),
        })
    }

    /// Waits. False as soon as it is time to end: a signal came, or nobody reads stdout any more.
    pub fn wait(&self, time: Duration) -> bool {
        // Nothing is asked about stdout: errors are told unasked.
        let mut descriptors = [
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.stdout.as_fd(), PollFlags::empty()),
        ];
        let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        !poll(&mut descriptors, timeout).is_ok_and(|ready| ready > 0)
    }
}
