//! What is known of the kernel's tables that one router follows.

use std::collections::{BTreeMap, BTreeSet};

use super::Destination;
use crate::kernel::linux::netlink::{TableNews, TableRoute, TableRouteKind};

/// Which route counts: the table that is named first, then the lower priority.
type Rank = (usize, u32);

/// The routes of all tables that one router follows.
#[derive(Debug, Default)]
pub struct Known {
    routes: BTreeMap<Destination, BTreeMap<Rank, TableRouteKind>>,
}

impl Known {
    /// All routes of one table, instead of those known before. What is not the same.
    pub fn replace(&mut self, source: usize, routes: Vec<TableRoute>) -> BTreeSet<Destination> {
        let mut old: BTreeMap<Destination, BTreeMap<Rank, TableRouteKind>> = BTreeMap::new();
        self.routes.retain(|destination, ranks| {
            let others = ranks.split_off(&(source + 1, 0));
            let mut before = std::mem::replace(ranks, others);
            let own = before.split_off(&(source, 0));
            ranks.append(&mut before);
            if !own.is_empty() {
                old.insert(*destination, own);
            }
            !ranks.is_empty()
        });
        let mut new: BTreeMap<Destination, BTreeMap<Rank, TableRouteKind>> = BTreeMap::new();
        for route in routes.into_iter().filter(is_meant) {
            let ranks = new.entry(route.destination).or_default();
            ranks.insert((source, route.priority), route.kind);
        }
        let mut changed: BTreeSet<Destination> = old.keys().copied().collect();
        for (destination, mut ranks) in new {
            if old.get(&destination) == Some(&ranks) {
                changed.remove(&destination);
            } else {
                changed.insert(destination);
            }
            self.routes
                .entry(destination)
                .or_default()
                .append(&mut ranks);
        }
        changed
    }

    /// What happened to a table; where. `None` if it must be read again.
    pub fn note(&mut self, source: usize, news: TableNews) -> Option<Option<Destination>> {
        match news {
            TableNews::Unknown => None,
            TableNews::Added(route) | TableNews::Appended(route) if !is_meant(&route) => Some(None),
            TableNews::Added(route) | TableNews::Appended(route) => {
                let ranks = self.routes.entry(route.destination).or_default();
                ranks.insert((source, route.priority), route.kind);
                Some(Some(route.destination))
            }
            TableNews::Removed(route) => {
                let Some(ranks) = self.routes.get_mut(&route.destination) else {
                    return Some(None);
                };
                let rank = (source, route.priority);
                // One of several with this priority: which of them counts now, only the kernel knows.
                let known = ranks.get(&rank);
                if known.is_some_and(|known| *known != route.kind) {
                    return None;
                }
                ranks.remove(&rank);
                if ranks.is_empty() {
                    self.routes.remove(&route.destination);
                }
                Some(Some(route.destination))
            }
        }
    }

    /// The route that counts, if there is one.
    pub fn best(&self, destination: &Destination) -> Option<&TableRouteKind> {
        let (_, kind) = self.routes.get(destination)?.first_key_value()?;
        Some(kind)
    }

    /// All routes that count.
    pub fn all(&self) -> impl Iterator<Item = (&Destination, &TableRouteKind)> {
        let routes = self.routes.iter();
        routes.filter_map(|(destination, ranks)| Some((destination, ranks.first_key_value()?.1)))
    }
}

/// Networks of the namespace's own interfaces are its own affair.
fn is_meant(route: &TableRoute) -> bool {
    !route.by_kernel && route.kind != TableRouteKind::Link
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn route(destination: &str, priority: u32, via: &str) -> TableRoute {
        let (address, length) = destination.split_once('/').unwrap();
        TableRoute {
            destination: (address.parse().unwrap(), length.parse().unwrap()),
            priority,
            kind: via_(via),
            by_kernel: false,
        }
    }

    fn via_(address: &str) -> TableRouteKind {
        TableRouteKind::Via(vec![(address.parse::<IpAddr>().unwrap(), 1)])
    }

    #[test]
    fn the_first_table_counts_more_and_then_the_lower_priority() {
        let mut known = Known::default();
        let to = route("10.0.0.0/8", 0, "1.1.1.1").destination;
        known.replace(1, vec![route("10.0.0.0/8", 5, "1.1.1.1")]);
        assert_eq!(known.best(&to), Some(&via_("1.1.1.1")));
        known.replace(
            0,
            vec![
                route("10.0.0.0/8", 200, "2.2.2.2"),
                route("10.0.0.0/8", 100, "3.3.3.3"),
            ],
        );
        assert_eq!(known.best(&to), Some(&via_("3.3.3.3")));
        let removed = TableNews::Removed(route("10.0.0.0/8", 100, "3.3.3.3"));
        assert_eq!(known.note(0, removed), Some(Some(to)));
        assert_eq!(known.best(&to), Some(&via_("2.2.2.2")));
        assert_eq!(known.replace(0, Vec::new()), BTreeSet::from([to]));
        assert_eq!(known.best(&to), Some(&via_("1.1.1.1")));
        let other = TableNews::Removed(route("10.0.0.0/8", 5, "9.9.9.9"));
        assert_eq!(known.note(1, other), None, "it has to be read again");
        let same = vec![route("10.0.0.0/8", 5, "1.1.1.1")];
        assert_eq!(known.replace(1, same), BTreeSet::new());
        assert_eq!(known.all().count(), 1);
    }
}
