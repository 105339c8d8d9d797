//! Links that somebody detached. The kernel announces that to nobody, so links are looked at, a few at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use topology_schema::Name;

use super::state::Time;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// Links that are looked at each time, which takes about 4 µs each: more of them have to wait for their turn, so that a host
/// with thousands of interfaces pays no more than a tenth of a percent of a CPU.
const AT_ONCE: usize = 128;

/// Links that were attached when the last round of their topology ended.
#[derive(Debug, Default)]
pub struct Detached {
    links: BTreeMap<Name, Vec<PathBuf>>,
    /// Where the next look goes on.
    next: usize,
    due: Time,
}

impl Detached {
    /// A round of the topology has ended, and left these links attached.
    pub fn follow(&mut self, topology: &Name, links: Vec<PathBuf>) {
        self.links.insert(topology.clone(), links);
    }

    /// A round of the topology begins: its links may go.
    pub fn leave(&mut self, topology: &Name) {
        self.links.remove(topology);
    }

    /// When to look.
    pub fn due(&self) -> Option<Time> {
        let any = self.links.values().any(|links| !links.is_empty());
        any.then_some(self.due)
    }

    /// Looks at some of them. Returns topologies with one that is not attached any more; each is told once.
    pub fn look(&mut self, now: Time, is_attached: impl Fn(&Path) -> bool) -> BTreeSet<Name> {
        self.due = now + LOOK;
        let count: usize = self.links.values().map(Vec::len).sum();
        let start = if self.next < count { self.next } else { 0 };
        let all = self
            .links
            .iter()
            .flat_map(|(topology, links)| links.iter().map(move |link| (topology, link)));
        // Once around at most.
        let some = all.clone().skip(start).chain(all.take(start));
        let gone: BTreeSet<Name> = some
            .take(AT_ONCE)
            .filter(|(_, link)| !is_attached(link))
            .map(|(topology, _)| topology.clone())
            .collect();
        self.next = (start + AT_ONCE) % count.max(1);
        for topology in &gone {
            // Its next round says what is attached then.
            self.leave(topology);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn links(prefix: &str, count: usize) -> Vec<PathBuf> {
        (0..count)
            .map(|number| format!("{prefix}{number}").into())
            .collect()
    }

    #[test]
    fn each_link_has_its_turn() {
        let mut detached = Detached::default();
        assert_eq!(detached.due(), None);
        detached.follow(&name("a"), links("a", 200));
        detached.follow(&name("b"), links("b", 100));
        let seen = std::cell::RefCell::new(BTreeMap::<PathBuf, usize>::new());
        for turn in 0..75 {
            let now = LOOK * turn;
            assert!(detached.due().is_some_and(|due| due <= now));
            let gone = detached.look(now, |link| {
                *seen.borrow_mut().entry(link.to_owned()).or_default() += 1;
                true
            });
            assert!(gone.is_empty());
        }
        // 75 looks at 128 each are 32 at each of the 300.
        let seen = seen.borrow();
        assert_eq!(seen.len(), 300);
        assert!(seen.values().all(|count| *count == 32), "{seen:?}");
    }

    #[test]
    fn what_is_gone_is_told_once() {
        let mut detached = Detached::default();
        detached.follow(&name("a"), links("a", 2));
        detached.follow(&name("b"), links("b", 1));
        let gone = |path: &Path| path != Path::new("a1");
        assert_eq!(detached.look(Time::ZERO, gone), BTreeSet::from([name("a")]));
        assert!(detached.look(LOOK, gone).is_empty());
        // The round could not help it.
        detached.follow(&name("a"), links("a", 1));
        assert!(detached.look(LOOK * 2, gone).is_empty());
        detached.leave(&name("a"));
        detached.leave(&name("b"));
        assert_eq!(detached.due(), None);
    }
}
