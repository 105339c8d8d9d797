//! Signals that ask a running command to stop.

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
};

use super::output;
use crate::interrupt::Interrupt;

/// From now on, SIGINT, SIGTERM and SIGHUP ask for what was done to be taken back, instead of leaving it half done.
pub(super) fn interrupt() -> Interrupt {
    listen(&[SIGINT, SIGTERM, SIGHUP])
}

/// The same, but the end of the terminal is no reason to stop: somebody is there to go back.
pub(super) fn interrupt_without_hangup() -> Interrupt {
    let _nobody_looks = listen(&[SIGHUP]);
    listen(&[SIGINT, SIGTERM])
}

/// From now on these signals do nothing: what goes on leads back, and is not to stop half-way.
pub(super) fn ignore() {
    let _nobody_looks = listen(&[SIGINT, SIGTERM, SIGHUP]);
}

fn listen(signals: &[i32]) -> Interrupt {
    let interrupt = Interrupt::default();
    for signal in signals {
        if let Err(error) = flag::register(*signal, interrupt.flag()) {
            output::note(&format!(
                "warning: signal {signal} cannot be handled: {error}"
            ));
        }
    }
    interrupt
}
