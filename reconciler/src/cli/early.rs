//! What an apply begins while its file is read: [`sketch`](crate::sketch).

use std::thread::{self, JoinHandle};

use topology_schema::{Name, Source, load, sketch};

use super::host::HostArgs;
use crate::{
    kernel::{Kernel as _, linux::LinuxKernel},
    sketch,
};

/// A kernel that has begun with something, or will have.
#[derive(Default)]
pub(super) struct Early(Option<JoinHandle<Option<LinuxKernel>>>);

impl Early {
    /// Begins, if the text is long enough to guess what is in it.
    pub(super) fn begin(host: &HostArgs, source: &Source) -> Self {
        let Some(sketch) = sketch(source) else {
            return Self::default();
        };
        let host = host.clone();
        let begin = move || {
            let (topology, _) = load(&sketch.source).ok()?;
            let mut kernel = host.open(&topology.metadata.name).ok()?;
            // What runs already has its programs.
            if !matches!(kernel.record(), Ok(None)) {
                return None;
            }
            let steps = sketch::steps(&topology, sketch.kept, sketch.left_out)?;
            kernel.foresee(&steps);
            Some(kernel)
        };
        let thread = thread::Builder::new().name("early".to_owned());
        Self(thread.spawn(begin).ok())
    }

    /// The kernel for this topology, if it has begun with it.
    pub(super) fn kernel(self, topology: &Name) -> Option<LinuxKernel> {
        // A panic was reported when it happened.
        let kernel = self.0?.join().ok()??;
        (kernel.topology() == topology).then_some(kernel)
    }
}
