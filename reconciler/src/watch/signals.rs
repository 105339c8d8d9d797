//! Signals and ends of rounds wake the loop through one socket.

use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag, low_level,
};

/// What signals asked for.
#[derive(Debug)]
pub struct Signals {
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    woken: UnixStream,
    waker: Arc<UnixStream>,
}

/// Wakes the loop from another thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<UnixStream>);

impl Signals {
    /// Catches SIGTERM and SIGINT (stop) and SIGHUP (reload) from now on.
    pub fn catch() -> io::Result<Self> {
        let (woken, waker) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        waker.set_nonblocking(true)?;
        let signals = Self {
            stop: Arc::default(),
            reload: Arc::default(),
            woken,
            waker: Arc::new(waker),
        };
        for (signal, asked) in [
            (SIGTERM, &signals.stop),
            (SIGINT, &signals.stop),
            (SIGHUP, &signals.reload),
        ] {
            // In this order: who is woken finds the flag.
            flag::register(signal, Arc::clone(asked))?;
            low_level::pipe::register(signal, signals.waker.try_clone()?)?;
        }
        Ok(signals)
    }

    /// True once the loop should end.
    pub fn stop(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// True if files are to be read again; once for each time it was asked for.
    pub fn take_reload(&self) -> bool {
        self.reload.swap(false, Ordering::SeqCst)
    }

    /// Something to wake the loop with.
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.waker))
    }

    /// Takes in all wake-ups.
    pub fn drain(&self) {
        let mut bytes = [0; 64];
        while (&self.woken).read(&mut bytes).is_ok_and(|count| count > 0) {}
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }
}

impl Waker {
    /// Wakes the loop.
    pub fn wake(&self) {
        // A full socket has woken it already.
        let _full = (&*self.0).write(&[1]);
    }
}
