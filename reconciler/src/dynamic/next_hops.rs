//! Numbers of next hops of routes from elsewhere: one that a route leads to keeps its meaning.

use std::collections::BTreeMap;

use bytemuck::Zeroable as _;
use ebpf_abi::{
    multipath::{Candidate, Group},
    router::{ROUTE_GROUP, Route},
};

use super::resolve::Weighted;
use crate::kernel::{self, linux::dynamic::DynamicTables};

/// Numbers that are given out.
#[derive(Debug)]
pub(super) struct NextHops {
    limit: u32,
    numbers: BTreeMap<Key, u32>,
    used: BTreeMap<u32, (Key, usize)>,
    /// Numbers that no route leads to any more, and whether they are groups; lookups may still be
    /// on their way there.
    retired: Vec<(u32, bool)>,
    free: Vec<u32>,
    next: u32,
}

/// What has a number, in an order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// Kind, port and address.
    One(u32, u32, [u8; 16]),
    /// Several next hops: their numbers, and how flows are spread over them.
    Several(Box<Group>),
}

fn key(route: &Route) -> Key {
    Key::One(route.kind, route.port, route.next_hop.bytes())
}

impl NextHops {
    /// What is in the tables. No route leads there yet.
    pub(super) fn new(there: Vec<(u32, Route)>, groups: BTreeMap<u32, Group>, limit: u32) -> Self {
        let mut next_hops = Self {
            limit,
            numbers: BTreeMap::new(),
            used: BTreeMap::new(),
            retired: Vec::new(),
            free: Vec::new(),
            next: 1,
        };
        for (number, route) in there {
            next_hops.next = next_hops.next.max(number + 1);
            let key = match groups.get(&number) {
                Some(group) if route.kind == ROUTE_GROUP => Key::Several(Box::new(*group)),
                _ => key(&route),
            };
            next_hops.numbers.insert(key.clone(), number);
            next_hops.used.insert(number, (key, 0));
        }
        for number in 1..next_hops.next {
            if !next_hops.used.contains_key(&number) {
                next_hops.free.push(number);
            }
        }
        for member in groups.values().flat_map(members) {
            next_hops.refer(member);
        }
        next_hops
    }

    /// How many numbers wait for being given out again.
    pub(super) fn retired(&self) -> usize {
        self.retired.len()
    }

    /// The number of a next hop or of several, written into the tables if it is new; `None` if
    /// they are full.
    pub(super) fn number(
        &mut self,
        tables: &DynamicTables,
        next_hops: &[Weighted],
    ) -> kernel::Result<Option<u32>> {
        match next_hops {
            [(only, _)] => self.one(tables, only),
            several => self.several(tables, several),
        }
    }

    fn one(&mut self, tables: &DynamicTables, route: &Route) -> kernel::Result<Option<u32>> {
        let key = key(route);
        if let Some(number) = self.numbers.get(&key) {
            return Ok(Some(*number));
        }
        let Some(number) = self.take() else {
            return Ok(None);
        };
        tables.write_next_hop(number, route)?;
        self.note(key, number);
        Ok(Some(number))
    }

    fn several(
        &mut self,
        tables: &DynamicTables,
        next_hops: &[Weighted],
    ) -> kernel::Result<Option<u32>> {
        let mut group = Group::zeroed();
        let mut candidates = Vec::new();
        for (place, (route, weight)) in next_hops.iter().enumerate() {
            let Some(number) = self.one(tables, route)? else {
                return Ok(None);
            };
            group.members[place] = number;
            candidates.push(Candidate {
                member: place as u8,
                address: route.next_hop,
                weight: *weight,
            });
        }
        group.spread(&candidates);
        let key = Key::Several(Box::new(group));
        if let Some(number) = self.numbers.get(&key) {
            return Ok(Some(*number));
        }
        let Some(number) = self.take() else {
            return Ok(None);
        };
        tables.write_group(number, &group)?;
        let head = Route {
            kind: ROUTE_GROUP,
            ..Route::default()
        };
        tables.write_next_hop(number, &head)?;
        members(&group).for_each(|member| self.refer(member));
        self.note(key, number);
        Ok(Some(number))
    }

    fn take(&mut self) -> Option<u32> {
        if let Some(number) = self.free.pop() {
            return Some(number);
        }
        let number = (self.next < self.limit).then_some(self.next);
        self.next += u32::from(number.is_some());
        number
    }

    fn note(&mut self, key: Key, number: u32) {
        self.numbers.insert(key.clone(), number);
        self.used.insert(number, (key, 0));
    }

    /// One more leads there.
    pub(super) fn refer(&mut self, number: u32) {
        if let Some((_, count)) = self.used.get_mut(&number) {
            *count += 1;
        }
    }

    /// One less leads there.
    pub(super) fn release(&mut self, number: u32) {
        let Some((_, count)) = self.used.get_mut(&number) else {
            return;
        };
        *count = count.saturating_sub(1);
        if *count > 0 {
            return;
        }
        let Some((key, _)) = self.used.remove(&number) else {
            return;
        };
        self.numbers.remove(&key);
        let is_group = matches!(key, Key::Several(_));
        self.retired.push((number, is_group));
        if let Key::Several(group) = key {
            members(&group).for_each(|member| self.release(member));
        }
    }

    /// No lookup is on its way any more to what is retired.
    pub(super) fn recycle(&mut self, tables: &DynamicTables) -> kernel::Result<()> {
        for (number, is_group) in std::mem::take(&mut self.retired) {
            tables.write_next_hop(number, &Route::default())?;
            if is_group {
                tables.delete_group(number)?;
            }
            self.free.push(number);
        }
        Ok(())
    }
}

/// The numbers of a group's next hops.
fn members(group: &Group) -> impl Iterator<Item = u32> {
    let members = group.members.into_iter();
    members.filter(|number| *number != 0)
}
