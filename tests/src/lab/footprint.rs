//! What a machine has: the same before a topology and after it.

use std::{collections::BTreeSet, fs, path::Path};

use super::BPFFS;
use crate::command::run;

/// A look at the lab.
#[derive(Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Interfaces, queueing disciplines, addresses, routes, rules, programs on interfaces; what
    /// is in bpffs; namespaces.
    lines: BTreeSet<String>,
}

impl Footprint {
    /// Looks at the calling thread's.
    pub fn take() -> Self {
        let mut lines = BTreeSet::new();
        for command in [
            "ip -o -d link show",
            "ip -o address show",
            "ip route show table all",
            "ip -6 route show table all",
            "ip rule show",
            "tc qdisc show",
            "tc filter show dev lo ingress",
            "bpftool net show",
        ] {
            let output = run(command).expect(0).stdout;
            lines.extend(
                output
                    .lines()
                    .map(|line| format!("{command}: {}", line.trim())),
            );
        }
        for directory in ["/run/netns", BPFFS] {
            lines.extend(names(Path::new(directory)).map(|name| format!("{directory}: {name}")));
        }
        Self { lines }
    }

    /// Insists that nothing came and nothing went.
    #[track_caller]
    pub fn assert_same(&self, after: &Self) {
        let left: Vec<_> = after.lines.difference(&self.lines).collect();
        let gone: Vec<_> = self.lines.difference(&after.lines).collect();
        assert!(
            left.is_empty() && gone.is_empty(),
            "left behind: {left:#?}\ngone: {gone:#?}"
        );
    }
}

fn names(directory: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}
