//! What is in a map.

use std::{borrow::Cow, collections::BTreeMap};

use super::{Bank, Template};

/// Whose content a map has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Ours: compared with the kernel, repaired.
    Config(BTreeMap<Vec<u8>, Template>),
    /// Ours, with all entries once per bank. A key ends with an index, of which each bank has a
    /// place of its own ([`Bank::key`]); an array's key is nothing else.
    Banked(BTreeMap<Vec<u8>, Template>),
    /// The data plane's: never compared, never cleared.
    Learned,
    /// Programs: each slot is a resource of its own.
    Slots,
}

impl Content {
    /// What the kernel's map should hold; `None` if that is not ours to say.
    pub fn entries(&self) -> Option<Entries<'_>> {
        match self {
            Self::Config(entries) => Some(Entries {
                entries,
                banks: false,
            }),
            Self::Banked(entries) => Some(Entries {
                entries,
                banks: true,
            }),
            Self::Learned | Self::Slots => None,
        }
    }
}

/// What a map should hold, once or once per bank.
#[derive(Clone, Copy, Debug)]
pub struct Entries<'a> {
    entries: &'a BTreeMap<Vec<u8>, Template>,
    banks: bool,
}

impl<'a> Entries<'a> {
    /// By the keys of the kernel's map, in their order.
    pub fn sorted(self) -> Vec<(Cow<'a, [u8]>, &'a Template)> {
        let mut entries: Vec<_> = self.iter().collect();
        if self.banks {
            entries.sort_unstable_by(|(key, _), (other, _)| key.cmp(other));
        }
        entries
    }

    /// By the keys of the kernel's map, bank by bank.
    pub fn iter(self) -> impl Iterator<Item = (Cow<'a, [u8]>, &'a Template)> {
        let banks = if self.banks { &Bank::ALL[..] } else { &[] };
        let in_bank = move |bank: &'a Bank| {
            let entries = self.entries.iter();
            entries.map(|(key, value)| (Cow::Owned(bank.key(key)), value))
        };
        let once = self.entries.iter().filter(move |_| !self.banks);
        let once = once.map(|(key, value)| (Cow::Borrowed(&**key), value));
        once.chain(banks.iter().flat_map(in_bank))
    }

    /// What is in the entries.
    pub fn values(self) -> impl Iterator<Item = &'a Template> {
        self.entries.values()
    }

    /// What an entry of the kernel's map should be.
    pub fn get(self, key: &[u8]) -> Option<&'a Template> {
        if !self.banks {
            return self.entries.get(key);
        }
        self.entries.get(&Bank::without(key)?)
    }
}
