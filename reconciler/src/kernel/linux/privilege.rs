//! Privilege: what this process needs of root's, and no more.
//!
//! A command reads its command line and files, then [`restrict`]s itself. What only a few steps
//! need stays permitted, and is effective while a [`Raised`] lives. Both are the calling thread's:
//! threads inherit what the one that starts them has, so a process restricts itself before it
//! starts any.

use std::{
    collections::HashSet,
    sync::{Mutex, OnceLock},
};

use caps::{CapSet, Capability, CapsHashSet};

use crate::kernel::{Error, Result};

/// A capability and what it is for.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// Which.
    pub capability: Capability,
    /// For what.
    pub purpose: &'static str,
    /// Nothing can be done without it.
    pub required: bool,
}

/// What is effective all the time.
const EFFECTIVE: [Capability; 2] = [Capability::CAP_BPF, Capability::CAP_NET_ADMIN];

/// What pcn needs.
pub const NEEDS: [Need; 7] = [
    need(Capability::CAP_BPF, true, "maps, programs, links"),
    need(
        Capability::CAP_NET_ADMIN,
        true,
        "attaching programs; interfaces, addresses, routes",
    ),
    need(
        Capability::CAP_PERFMON,
        true,
        "maps and programs: without it the verifier forbids arithmetic on pointers, and jumps are slow ones",
    ),
    need(
        Capability::CAP_SYS_ADMIN,
        false,
        "network namespaces, mounting bpffs, finding objects whose pins are gone",
    ),
    need(
        Capability::CAP_SYS_PTRACE,
        false,
        "seeing which processes are in a network namespace",
    ),
    need(
        Capability::CAP_NET_BROADCAST,
        false,
        "hearing of changes inside network namespaces (watch)",
    ),
    need(
        Capability::CAP_NET_RAW,
        false,
        "checks by ping from where echoes are not allowed to everybody",
    ),
];

const fn need(capability: Capability, required: bool, purpose: &'static str) -> Need {
    Need {
        capability,
        purpose,
        required,
    }
}

/// Kept beyond [`NEEDS`].
static KEPT: Mutex<Vec<Capability>> = Mutex::new(Vec::new());
static RESTRICTED: OnceLock<std::result::Result<(), String>> = OnceLock::new();

/// Keeps a capability for ordinary files that are still to be read or written where only root
/// may; before [`restrict`].
pub fn keep(capability: Capability) {
    if let Ok(mut kept) = KEPT.lock() {
        kept.push(capability);
    }
}

/// Drops all capabilities but those in [`NEEDS`], for this process and what it starts, for good.
/// Only the first call does anything.
///
/// # Errors
///
/// [`Error::Permission`] if the kernel refuses.
pub fn restrict() -> Result<()> {
    let done = RESTRICTED.get_or_init(|| drop_the_rest().map_err(|error| error.to_string()));
    done.clone()
        .map_err(|error| Error::Permission(format!("drop capabilities: {error}")))
}

fn drop_the_rest() -> std::result::Result<(), caps::errors::CapsError> {
    let kept: CapsHashSet = KEPT
        .lock()
        .map(|kept| kept.iter().copied().collect())
        .unwrap_or_default();
    let needed: CapsHashSet = NEEDS
        .iter()
        .map(|need| need.capability)
        .chain(kept.iter().copied())
        .collect();
    let effective =
        |capability: &Capability| kept.contains(capability) || EFFECTIVE.contains(capability);
    // The bounding set first: shrinking it takes a capability that goes.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for capability in caps::read(None, CapSet::Bounding)?.difference(&needed) {
            caps::drop(None, CapSet::Bounding, *capability)?;
        }
    }
    let only = |set: CapSet| -> std::result::Result<CapsHashSet, caps::errors::CapsError> {
        Ok(caps::read(None, set)?
            .intersection(&needed)
            .copied()
            .collect())
    };
    caps::set(None, CapSet::Ambient, &only(CapSet::Ambient)?)?;
    caps::set(None, CapSet::Inheritable, &only(CapSet::Inheritable)?)?;
    let permitted = only(CapSet::Permitted)?;
    let now: HashSet<Capability> = permitted.iter().copied().filter(effective).collect();
    caps::set(None, CapSet::Effective, &now)?;
    caps::set(None, CapSet::Permitted, &permitted)?;
    nix::sys::prctl::set_no_new_privs()
        .map_err(|errno| caps::errors::CapsError::from(format!("no_new_privs: {errno}")))
}

/// Whether this thread may have a capability: it need not be effective now.
pub fn is_permitted(capability: Capability) -> bool {
    // What cannot be read, the kernel itself will refuse.
    caps::has_cap(None, CapSet::Permitted, capability).unwrap_or(true)
}

/// A capability that is effective for the calling thread until this is dropped.
#[derive(Debug)]
pub struct Raised {
    capability: Option<Capability>,
    /// Belongs to its thread.
    _thread: std::marker::PhantomData<*const ()>,
}

impl Raised {
    /// Raises a capability. Where that is not permitted, the call that needs it will say so.
    pub fn new(capability: Capability) -> Self {
        let missing = !caps::has_cap(None, CapSet::Effective, capability).unwrap_or(true);
        let raised = missing && caps::raise(None, CapSet::Effective, capability).is_ok();
        Self {
            capability: raised.then_some(capability),
            _thread: std::marker::PhantomData,
        }
    }

    /// `CAP_SYS_ADMIN`: namespaces, mounts, objects by their ids.
    pub fn admin() -> Self {
        Self::new(Capability::CAP_SYS_ADMIN)
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        if let Some(capability) = self.capability
            && let Err(error) = caps::drop(None, CapSet::Effective, capability)
        {
            tracing::warn!("{capability} stays effective: {error}");
        }
    }
}
