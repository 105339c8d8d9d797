//! The wish to stop an apply that runs.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// A flag that signals set and [`execute`](crate::execute::execute) looks at before each step that can still be taken
/// back. Clones share the flag. The default is never set by itself.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Asks to stop.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// True once somebody asked to stop.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The flag, for a signal handler.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}
