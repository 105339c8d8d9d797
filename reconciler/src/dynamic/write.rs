//! Routes from elsewhere in a router's tables.

use std::{collections::BTreeSet, net::IpAddr};

use ebpf_abi::router::RouteEntry;
use fib::{Full, V4Writer, V6Writer};

use super::{Destination, Known, Resolver, Taken, next_hops::NextHops, resolve::Weighted};
use crate::kernel::{self, linux::dynamic::DynamicTables};

/// Writes the tables of one router.
#[derive(Debug)]
pub struct Writer {
    v4: V4Writer,
    v6: V6Writer,
    next_hops: NextHops,
    /// Routes that cannot be used.
    pending: BTreeSet<Destination>,
}

/// Next hops that nothing leads to any more, before they are waited for. Blocks are waited for where there is no
/// room without them.
const RETIRED: usize = 1024;

impl Writer {
    /// Reads what is in the tables.
    ///
    /// # Errors
    ///
    /// They are other ones than this `pcn` makes.
    pub fn open(tables: &DynamicTables) -> kernel::Result<Self> {
        let other = |_: Full| kernel::Error::Call("dynamic routes: made by another pcn".to_owned());
        let v4 = V4Writer::open(tables.v4()).map_err(other)?;
        let v6 = V6Writer::open(tables.v6()).map_err(other)?;
        let mut next_hops = NextHops::new(
            tables.next_hops()?,
            tables.groups()?,
            tables.next_hop_limit(),
        );
        for (_, entry) in v4.routes() {
            next_hops.refer(entry.next_hop());
        }
        for (_, entry) in v6.routes() {
            next_hops.refer(entry.next_hop());
        }
        Ok(Self {
            v4,
            v6,
            next_hops,
            pending: BTreeSet::new(),
        })
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes the tables hold what is known, and nothing else.
    ///
    /// # Errors
    ///
    /// A table cannot be written.
    pub fn converge(
        &mut self,
        tables: &DynamicTables,
        known: &Known,
        resolver: &Resolver,
        taken: &mut Taken,
    ) -> kernel::Result<()> {
        let there: BTreeSet<Destination> = self.destinations().collect();
        let wanted = known.all().map(|(destination, _)| *destination);
        let all: BTreeSet<Destination> = there.into_iter().chain(wanted).collect();
        self.update(tables, known, resolver, &all, taken)
    }

    /// Writes what changed.
    ///
    /// # Errors
    ///
    /// A table cannot be written.
    pub fn update(
        &mut self,
        tables: &DynamicTables,
        known: &Known,
        resolver: &Resolver,
        changed: &BTreeSet<Destination>,
        taken: &mut Taken,
    ) -> kernel::Result<()> {
        for destination in changed {
            let route = known.best(destination).map(|kind| resolver.route(kind));
            let written = match route {
                Some(Ok(route)) => self.set(tables, *destination, &route)?,
                Some(Err(why)) => Err(why),
                None => Ok(self.remove(tables, *destination)?),
            };
            match written {
                Ok(changed) => {
                    taken.changed += usize::from(changed);
                    self.pending.remove(destination);
                }
                Err(why) => {
                    taken.changed += usize::from(self.remove(tables, *destination)?);
                    taken.skip(*destination, &why);
                    self.pending.insert(*destination);
                }
            }
            if self.next_hops.retired() > RETIRED {
                self.recycle(tables)?;
            }
        }
        taken.routes = self.len();
        tables.say_pending(self.pending.len());
        Ok(())
    }

    /// What there are routes to.
    pub(super) fn destinations(&self) -> impl Iterator<Item = Destination> {
        let v4 = self
            .v4
            .routes()
            .map(|(address, entry)| (IpAddr::from(address.to_be_bytes()), entry.length() as u8));
        let v6 = self
            .v6
            .routes()
            .map(|(address, entry)| (IpAddr::from(address.to_be_bytes()), entry.length() as u8));
        v4.chain(v6)
    }

    /// No packet is where something retired leads.
    fn recycle(&mut self, tables: &DynamicTables) -> kernel::Result<()> {
        tables.wait_for_lookups()?;
        self.v4.recycle();
        self.next_hops.recycle(tables)
    }

    /// Writes a route; says why if there is no room. True if it was not there as it is.
    fn set(
        &mut self,
        tables: &DynamicTables,
        (address, length): Destination,
        route: &[Weighted],
    ) -> kernel::Result<Result<bool, String>> {
        let mut number = self.next_hops.number(tables, route)?;
        if number.is_none() && self.next_hops.retired() != 0 {
            self.recycle(tables)?;
            number = self.next_hops.number(tables, route)?;
        }
        let Some(number) = number else {
            return Ok(Err("there are too many different next hops".to_owned()));
        };
        let entry = RouteEntry::new(number, length);
        let old = self.get((address, length));
        let set = match address {
            IpAddr::V4(address) => {
                let set = |v4: &mut V4Writer| v4.set(tables.v4(), address.to_bits(), entry);
                let wait = || tables.wait_for_lookups();
                self.v4.with_room(tables.v4(), wait, set)?
            }
            IpAddr::V6(address) => self.v6.set(tables.v6(), address.to_bits(), entry),
        };
        match set {
            Ok(true) => {
                self.next_hops.refer(number);
                if let Some(old) = old {
                    self.next_hops.release(old.next_hop());
                }
                Ok(Ok(true))
            }
            Ok(false) => Ok(Ok(false)),
            Err(Full) => Ok(Err("there is no room for it (`maxRoutes`)".to_owned())),
        }
    }

    fn get(&self, (address, length): Destination) -> Option<RouteEntry> {
        match address {
            IpAddr::V4(address) => self.v4.get(address.to_bits(), length),
            IpAddr::V6(address) => self.v6.get(address.to_bits(), length),
        }
    }

    fn remove(
        &mut self,
        tables: &DynamicTables,
        (address, length): Destination,
    ) -> kernel::Result<bool> {
        let Some(old) = self.get((address, length)) else {
            return Ok(false);
        };
        match address {
            IpAddr::V4(address) => {
                let address = address.to_bits();
                let remove = |v4: &mut V4Writer| v4.remove(tables.v4(), address, length);
                let wait = || tables.wait_for_lookups();
                let removed = self.v4.with_room(tables.v4(), wait, remove)?;
                removed.map_err(|full| kernel::Error::Call(format!("dynamic routes: {full}")))?;
            }
            IpAddr::V6(address) => {
                self.v6.remove(tables.v6(), address.to_bits(), length);
            }
        }
        self.next_hops.release(old.next_hop());
        Ok(true)
    }
}
