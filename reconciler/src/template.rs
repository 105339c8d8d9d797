//! Content of maps and programs in which interface indices are still to be filled in.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use topology_schema::InterfaceName;

use crate::rows::Rows;

/// Where an index goes (`u32`, the machine's byte order), and whose it is.
type Hole = (usize, InterfaceName);

/// Bytes in which interface indices are still to be filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// The bytes, zero where an index goes.
    pub bytes: Vec<u8>,
    /// Offsets of indices and whose they are.
    pub ifindexes: Vec<Hole>,
}

impl Template {
    /// Bytes without indices.
    pub fn plain(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            bytes: bytes.into(),
            ifindexes: Vec::new(),
        }
    }

    /// The same, borrowed.
    pub fn view(&self) -> TemplateView<'_> {
        TemplateView {
            bytes: &self.bytes,
            ifindexes: &self.ifindexes,
        }
    }

    /// The bytes, or `None` while one of the interfaces does not exist.
    pub fn resolve(
        &self,
        ifindex: impl Fn(&InterfaceName) -> Option<u32>,
    ) -> Option<Cow<'_, [u8]>> {
        self.view().resolve(ifindex)
    }
}

/// A [`Template`] that lies elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateView<'a> {
    /// The bytes, zero where an index goes.
    pub bytes: &'a [u8],
    /// Offsets of indices and whose they are.
    pub ifindexes: &'a [Hole],
}

impl<'a> TemplateView<'a> {
    /// The bytes, or `None` while one of the interfaces does not exist.
    pub fn resolve(self, ifindex: impl Fn(&InterfaceName) -> Option<u32>) -> Option<Cow<'a, [u8]>> {
        let mut bytes = Cow::Borrowed(self.bytes);
        for (offset, interface) in self.ifindexes {
            let index = ifindex(interface)?.to_ne_bytes();
            bytes.to_mut()[*offset..*offset + 4].copy_from_slice(&index);
        }
        Some(bytes)
    }

    /// True if these are the bytes.
    pub fn is(self, bytes: &[u8], ifindex: impl Fn(&InterfaceName) -> Option<u32>) -> bool {
        self.resolve(ifindex).is_some_and(|own| *own == *bytes)
    }

    /// A copy of its own.
    pub fn to_template(self) -> Template {
        Template {
            bytes: self.bytes.to_vec(),
            ifindexes: self.ifindexes.to_vec(),
        }
    }
}

/// Entries of a map, in some of whose values interface indices are still to be filled in. Copies share them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Templates {
    entries: Arc<Rows>,
    /// By key.
    ifindexes: BTreeMap<Vec<u8>, Vec<Hole>>,
}

impl Templates {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// In the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], TemplateView<'_>)> {
        let entries = self.entries.iter();
        entries.map(|(key, bytes)| (key, self.view(key, bytes)))
    }

    /// The entries, if no index is missing in them.
    pub fn rows(&self) -> Option<&Rows> {
        self.ifindexes.is_empty().then_some(&self.entries)
    }

    fn view<'a>(&'a self, key: &[u8], bytes: &'a [u8]) -> TemplateView<'a> {
        // Mostly there are no indices at all.
        let ifindexes = if self.ifindexes.is_empty() {
            None
        } else {
            self.ifindexes.get(key)
        };
        TemplateView {
            bytes,
            ifindexes: ifindexes.map(Vec::as_slice).unwrap_or_default(),
        }
    }
}

impl From<Rows> for Templates {
    fn from(entries: Rows) -> Self {
        Self {
            entries: Arc::new(entries),
            ifindexes: BTreeMap::new(),
        }
    }
}

impl FromIterator<(Vec<u8>, Template)> for Templates {
    fn from_iter<T: IntoIterator<Item = (Vec<u8>, Template)>>(entries: T) -> Self {
        let mut ifindexes = BTreeMap::new();
        let entries = entries.into_iter().map(|(key, template)| {
            if !template.ifindexes.is_empty() {
                ifindexes.insert(key.clone(), template.ifindexes);
            }
            (key, template.bytes)
        });
        let entries = Arc::new(entries.collect());
        Self { entries, ifindexes }
    }
}
