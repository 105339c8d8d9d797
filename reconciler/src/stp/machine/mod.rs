//! The state machines of IEEE 802.1D-2004, 17.22 to 17.31, each in a file of its own.
//!
//! A function `step` takes at most one transition and says whether it took one. All of them are
//! asked again and again until none has one to take. States that are left at once are not kept:
//! what is done in them is done by the transition.

pub mod detection;
pub mod information;
pub mod migration;
pub mod receive;
pub mod role;
pub mod selection;
pub mod state;
pub mod timers;
pub mod topology;
pub mod transmit;

use super::instance::Instance;

/// Asks each machine once. True if one had something to do.
pub(super) fn round(instance: &mut Instance) -> bool {
    let mut changed = selection::step(instance);
    for at in 0..instance.ports.len() {
        for step in [
            receive::step,
            migration::step,
            detection::step,
            information::step,
            role::step,
            state::step,
            topology::step,
            transmit::step,
        ] {
            changed |= step(instance, at);
        }
    }
    changed
}
