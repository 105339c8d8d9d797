//! A kernel that fails on purpose, around any other: for tests of what happens then.

use std::{collections::BTreeSet, time::Duration};

use topology_schema::{Check, Name};

use super::{Entry, Error, Kernel, Result};
use crate::{
    interrupt::Interrupt,
    observed::{Interest, Observed},
    plan::{Op, Step},
    record::Record,
    resource::PinPath,
};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The call is refused, and nothing was done.
    Refused,
    /// The call reports an error, though it was done.
    Late,
    /// The call reports an error when half of it was done.
    Half,
    /// The call panics.
    Panic,
    /// The process is killed before the call.
    KilledBefore,
    /// The process is killed after the call.
    KilledAfter,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Refused,
        Self::Late,
        Self::Half,
        Self::Panic,
        Self::KilledBefore,
        Self::KilledAfter,
    ];

    /// True if nothing is called any more after this one.
    pub fn is_deadly(self) -> bool {
        matches!(self, Self::KilledBefore | Self::KilledAfter)
    }
}

/// Counts calls, and lets one of them fail.
#[derive(Debug)]
pub struct FaultyKernel<K> {
    kernel: K,
    /// Calls so far.
    pub calls: usize,
    fault: Option<(usize, Fault)>,
    killed: bool,
}

impl<K> FaultyKernel<K> {
    /// The call with this number, counted from 0, fails.
    pub fn new(kernel: K, fault: Option<(usize, Fault)>) -> Self {
        Self {
            kernel,
            calls: 0,
            fault,
            killed: false,
        }
    }

    /// The kernel without faults.
    pub fn into_inner(self) -> K {
        self.kernel
    }

    fn call<T>(
        &mut self,
        call: impl FnOnce(&mut K) -> Result<T>,
        half: impl FnOnce(&mut K) -> Result<()>,
    ) -> Result<T> {
        let number = self.calls;
        self.calls += 1;
        if self.killed {
            return Err(planned(number));
        }
        let Some((_, fault)) = self.fault.filter(|(at, _)| *at == number) else {
            return call(&mut self.kernel);
        };
        self.killed = fault.is_deadly();
        match fault {
            Fault::Refused | Fault::KilledBefore => {}
            Fault::Late | Fault::KilledAfter => drop(call(&mut self.kernel)?),
            Fault::Half => half(&mut self.kernel)?,
            Fault::Panic => panic!("call {number}: planned panic"),
        }
        Err(planned(number))
    }
}

fn planned(number: usize) -> Error {
    Error::Call(format!("call {number}: planned failure"))
}

/// What is done of an operation that fails in the middle; `None` for those that are done at once.
fn half(op: &Op) -> Option<Op> {
    match op {
        Op::CreateVeth(name, veth) => {
            let mut veth = veth.clone();
            veth.peer.addresses.clear();
            veth.peer.routes.clear();
            Some(Op::CreateVeth(name.clone(), veth))
        }
        Op::ConfigureVeth { name, from, to } => {
            let mut middle = to.clone();
            middle.peer.routes = from.peer.routes.clone();
            middle.peer.up = from.peer.up;
            let (name, from) = (name.clone(), from.clone());
            Some(Op::ConfigureVeth {
                name,
                from,
                to: middle,
            })
        }
        Op::DeleteVeths(names) => {
            let some: BTreeSet<_> = names.iter().take(names.len() / 2).cloned().collect();
            (!some.is_empty()).then_some(Op::DeleteVeths(some))
        }
        Op::WriteEntries { map, put, delete } => Some(Op::WriteEntries {
            map: map.clone(),
            put: put
                .iter()
                .take(put.len().div_ceil(2))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            delete: delete.iter().take(delete.len() / 2).cloned().collect(),
        }),
        Op::Activate { bank, .. } => Some(Op::Activate {
            bank: *bank,
            drain: false,
        }),
        _ => None,
    }
}

impl<K: Kernel> Kernel for FaultyKernel<K> {
    fn topology(&self) -> &Name {
        self.kernel.topology()
    }

    fn record(&mut self) -> Result<Option<Record>> {
        self.call(K::record, |_| Ok(()))
    }

    fn observe(&mut self, interest: &Interest) -> Result<Observed> {
        self.call(|kernel| kernel.observe(interest), |_| Ok(()))
    }

    fn read(&mut self, map: &PinPath) -> Result<Vec<Entry>> {
        self.call(|kernel| kernel.read(map), |_| Ok(()))
    }

    fn now(&self) -> u64 {
        self.kernel.now()
    }

    fn boot_time(&self) -> Duration {
        self.kernel.boot_time()
    }

    fn check(
        &mut self,
        checks: &[Check],
        interrupt: &Interrupt,
    ) -> Vec<std::result::Result<(), String>> {
        self.kernel.check(checks, interrupt)
    }

    /// No call: nobody sees it, and what a process that is killed made of it goes with the process.
    fn prepare(&mut self, steps: &[Step]) {
        self.kernel.prepare(if self.killed { &[] } else { steps });
    }

    /// Likewise.
    fn foresee(&mut self, steps: &[Step]) {
        if !self.killed {
            self.kernel.foresee(steps);
        }
    }

    fn apply(&mut self, op: &Op) -> Result<()> {
        self.call(
            |kernel| kernel.apply(op),
            |kernel| half(op).map_or(Ok(()), |half| kernel.apply(&half)),
        )
    }
}
