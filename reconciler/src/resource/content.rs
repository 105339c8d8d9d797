//! What is in a map.

use std::borrow::Cow;

use super::{Bank, TemplateView, Templates};
use crate::rows::Rows;

/// Whose content a map has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Ours: compared with the kernel, repaired.
    Config(Templates),
    /// Ours, with all entries once per bank. A key ends with an index, of which each bank has a
    /// place of its own ([`Bank::key`]); an array's key is nothing else.
    Banked(Templates),
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
    entries: &'a Templates,
    banks: bool,
}

/// An entry of the kernel's map.
pub type Entry<'a> = (Cow<'a, [u8]>, TemplateView<'a>);

impl<'a> Entries<'a> {
    /// True if indices of interfaces are to be filled in.
    pub fn has_indices(self) -> bool {
        self.entries.rows().is_none()
    }

    /// How many there are, in one bank.
    pub fn len(self) -> usize {
        self.entries.len()
    }

    /// True if there are none.
    pub fn is_empty(self) -> bool {
        self.entries.is_empty()
    }

    /// As they are written, if nothing is to be filled in.
    pub fn rows(self) -> Option<Cow<'a, Rows>> {
        let rows = self.entries.rows()?;
        if !self.banks {
            return Some(Cow::Borrowed(rows));
        }
        let Some((key, value)) = rows.iter().next() else {
            return Some(Cow::Owned(Rows::default()));
        };
        let sizes = (key.len(), value.len());
        let room = |size: usize| Vec::with_capacity(Bank::ALL.len() * rows.len() * size);
        let (mut keys, mut values) = (room(sizes.0), room(sizes.1));
        for (key, value) in rows.iter() {
            for bank in Bank::ALL {
                bank.extend_with_key(&mut keys, key);
                values.extend_from_slice(value);
            }
        }
        Some(Cow::Owned(Rows::new(sizes.0, sizes.1, keys, values)))
    }

    /// By the keys of the kernel's map, in their order.
    pub fn sorted(self) -> Box<dyn Iterator<Item = Entry<'a>> + 'a> {
        if !self.banks {
            return Box::new(self.iter());
        }
        let mut entries: Vec<_> = self.iter().collect();
        entries.sort_unstable_by(|(key, _), (other, _)| key.cmp(other));
        Box::new(entries.into_iter())
    }

    /// By the keys of the kernel's map, bank by bank.
    pub fn iter(self) -> impl Iterator<Item = Entry<'a>> {
        let banks = if self.banks { &Bank::ALL[..] } else { &[] };
        let in_bank = move |bank: &'a Bank| {
            let entries = self.entries.iter();
            entries.map(|(key, value)| (Cow::Owned(bank.key(key)), value))
        };
        let once = self.entries.iter().filter(move |_| !self.banks);
        let once = once.map(|(key, value)| (Cow::Borrowed(key), value));
        once.chain(banks.iter().flat_map(in_bank))
    }

    /// What is in the entries.
    pub fn values(self) -> impl Iterator<Item = TemplateView<'a>> {
        self.entries.iter().map(|(_, value)| value)
    }
}
