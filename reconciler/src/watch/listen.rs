//! The kernel's announcements: heard, told apart, and merged.

use std::{
    collections::BTreeSet,
    os::fd::{AsFd as _, BorrowedFd},
    time::Duration,
};

use topology_schema::Name;

use super::{
    concern::{Concerns, Noted},
    settle::Settle,
    state::Time,
};
use crate::kernel::linux::netlink::{Monitor, Netlink, News};

/// Between an announcement and the round for it: others follow it.
const QUIET: Duration = Duration::from_millis(20);
/// The same, however many follow.
const LONGEST: Duration = Duration::from_millis(200);

/// Hears announcements, while it can.
#[derive(Debug)]
pub struct Listener {
    monitor: Option<Monitor>,
    /// Whom they concern.
    pub concerns: Concerns,
    /// Topologies that were concerned since the last time.
    concerned: BTreeSet<Name>,
    settle: Settle,
}

impl Listener {
    /// Hears nothing yet.
    pub fn new() -> Self {
        Self {
            monitor: None,
            concerns: Concerns::default(),
            concerned: BTreeSet::new(),
            settle: Settle::new(LONGEST),
        }
    }

    /// Begins to listen, if it does not; everything may have changed before.
    pub fn open(&mut self, now: Time) {
        if self.monitor.is_some() {
            return;
        }
        match Monitor::open() {
            Ok(monitor) => {
                if !monitor.hears_other_namespaces() {
                    tracing::warn!(
                        "without CAP_NET_BROADCAST changes inside of namespaces are noticed at the next interval only"
                    );
                }
                self.monitor = Some(monitor);
                self.begin_anew(now);
            }
            Err(error) => {
                tracing::error!("drift is noticed at the next interval only: {error}");
            }
        }
    }

    /// What to wait for.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.monitor.as_ref().map(|monitor| monitor.as_fd())
    }

    /// When to look at what is concerned.
    pub fn due(&self) -> Option<Time> {
        self.settle.due()
    }

    /// Topologies to look at.
    pub fn take_concerned(&mut self) -> BTreeSet<Name> {
        self.settle.done();
        std::mem::take(&mut self.concerned)
    }

    /// Takes in what was announced since the last time.
    pub fn read(&mut self, now: Time) -> Vec<Noted> {
        let Some(monitor) = &mut self.monitor else {
            return Vec::new();
        };
        match monitor.read() {
            Ok(News::All(announcements)) => {
                let notes = announcements
                    .into_iter()
                    .map(|announcement| self.concerns.note(announcement));
                let notes: Vec<Noted> = notes.collect();
                for noted in &notes {
                    if !noted.concerned.is_empty() {
                        self.settle.event(now, QUIET);
                        self.concerned.extend(noted.concerned.iter().cloned());
                    }
                }
                notes
            }
            Ok(News::Lost) => {
                tracing::debug!("announcements were lost: everything is looked at");
                self.begin_anew(now);
                Vec::new()
            }
            Err(error) => {
                tracing::error!("{error}");
                // Opened again with the next look at the files.
                self.monitor = None;
                Vec::new()
            }
        }
    }

    /// Everything may have changed.
    fn begin_anew(&mut self, now: Time) {
        match Netlink::host().and_then(|mut host| host.links()) {
            Ok(links) => self.concerns.set_links(links),
            Err(error) => tracing::warn!("{error}"),
        }
        self.concerned.extend(self.concerns.topologies().cloned());
        self.settle.event(now, QUIET);
    }
}
