//! Port state transition (IEEE 802.1D-2004, 17.30): has done what the roles want.

use crate::stp::instance::{Action, Instance};

pub fn step(instance: &mut Instance, at: usize) -> bool {
    let port = &mut instance.ports[at];
    let (learning, forwarding) = match (port.learning, port.forwarding) {
        (false, _) if port.learn => (true, false),
        (true, false) if !port.learn => (false, false),
        (true, false) if port.forward => (true, true),
        (true, true) if !port.forward => (false, false),
        _ => return false,
    };
    port.learning = learning;
    port.forwarding = forwarding;
    let state = port.state();
    instance.act(at, |number| Action::Set(number, state));
    true
}
