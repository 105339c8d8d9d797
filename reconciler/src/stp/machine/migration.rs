//! Port protocol migration (IEEE 802.1D-2004, 17.24): where somebody speaks only STP, so do we.
//! (`mcheck` is not here: a port whose link was down begins with RSTP as well.)

use crate::stp::{
    instance::Instance,
    port::{MIGRATE_TIME, Migration},
};

pub fn step(instance: &mut Instance, at: usize) -> bool {
    let rstp_version = instance.settings.rstp;
    let port = &mut instance.ports[at];
    let next = match port.migration {
        Migration::CheckingRstp if port.timers.mdelay_while == 0 => Migration::Sensing,
        Migration::CheckingRstp
            if port.timers.mdelay_while != MIGRATE_TIME && !port.port_enabled =>
        {
            Migration::CheckingRstp
        }
        Migration::SelectingStp if port.timers.mdelay_while == 0 || !port.port_enabled => {
            Migration::Sensing
        }
        Migration::Sensing if port.send_rstp && port.rcvd_stp => Migration::SelectingStp,
        Migration::Sensing
            if !port.port_enabled || (rstp_version && !port.send_rstp && port.rcvd_rstp) =>
        {
            Migration::CheckingRstp
        }
        Migration::CheckingRstp | Migration::SelectingStp | Migration::Sensing => return false,
    };
    match next {
        Migration::CheckingRstp => {
            port.send_rstp = rstp_version;
            port.timers.mdelay_while = MIGRATE_TIME;
        }
        Migration::SelectingStp => {
            port.send_rstp = false;
            port.timers.mdelay_while = MIGRATE_TIME;
        }
        Migration::Sensing => {
            port.rcvd_rstp = false;
            port.rcvd_stp = false;
        }
    }
    port.migration = next;
    true
}
