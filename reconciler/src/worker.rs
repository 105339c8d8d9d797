//! A thread that is told what is wanted of it, and woken to hear it.

use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

/// What is wanted, and whether that is the end of it.
#[derive(Debug, Default)]
struct Shared<W> {
    wishes: W,
    stop: bool,
}

/// The thread, as others see it. Dropping it tells it to stop, and waits until it has.
#[derive(Debug)]
pub struct Worker<W> {
    shared: Arc<Mutex<Shared<W>>>,
    waker: UnixStream,
    thread: Option<JoinHandle<()>>,
}

/// The same, as the thread sees it. Its descriptor is readable when there is something to hear.
#[derive(Debug)]
pub struct Inbox<W> {
    shared: Arc<Mutex<Shared<W>>>,
    woken: UnixStream,
}

impl<W: Default + Send + 'static> Worker<W> {
    /// Starts a thread with this name.
    ///
    /// # Errors
    ///
    /// There is no descriptor or no thread to be had.
    pub fn start(name: &str, work: impl FnOnce(Inbox<W>) + Send + 'static) -> io::Result<Self> {
        let (waker, woken) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let shared = Arc::<Mutex<Shared<W>>>::default();
        let inbox = Inbox {
            shared: Arc::clone(&shared),
            woken,
        };
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(|| work(inbox))?;
        Ok(Self {
            shared,
            waker,
            thread: Some(thread),
        })
    }
}

impl<W> Worker<W> {
    /// Changes what is wanted, and wakes the thread.
    pub fn wish(&self, wish: impl FnOnce(&mut W)) {
        wish(&mut lock(&self.shared).wishes);
        self.wake();
    }

    fn wake(&self) {
        // A full socket has woken it already.
        let _full = (&self.waker).write(&[1]);
    }
}

impl<W> Drop for Worker<W> {
    fn drop(&mut self) {
        lock(&self.shared).stop = true;
        self.wake();
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened.
            let _panicked = thread.join();
        }
    }
}

impl<W> Inbox<W> {
    /// What is wanted, as `read` takes it; `None` once the thread is to stop.
    pub fn read<T>(&self, read: impl FnOnce(&mut W) -> T) -> Option<T> {
        let mut shared = lock(&self.shared);
        (!shared.stop).then(|| read(&mut shared.wishes))
    }

    /// Takes note of having been woken; true if it was.
    pub fn drain(&self) -> bool {
        let mut bytes = [0; 64];
        let mut woken = false;
        while (&self.woken).read(&mut bytes).is_ok_and(|count| count > 0) {
            woken = true;
        }
        woken
    }
}

impl<W> AsFd for Inbox<W> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }
}

/// A thread that panicked while it held the lock left nothing half done: wishes are sets.
fn lock<W>(shared: &Mutex<Shared<W>>) -> MutexGuard<'_, Shared<W>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
