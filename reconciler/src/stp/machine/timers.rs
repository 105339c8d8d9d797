//! Port timers (IEEE 802.1D-2004, 17.22).

use crate::stp::port::Timers;

/// Counts each of them down.
pub fn tick(timers: &mut Timers) {
    for timer in [
        &mut timers.edge_delay_while,
        &mut timers.fd_while,
        &mut timers.hello_when,
        &mut timers.mdelay_while,
        &mut timers.rb_while,
        &mut timers.rcvd_info_while,
        &mut timers.rr_while,
        &mut timers.tc_while,
        &mut timers.tx_count,
    ] {
        *timer = timer.saturating_sub(1);
    }
}
