//! Addresses of things in plans: `cube/r1`, `link/br1:up--r1:lan`, `cube/r1/routes/10.0.0.0/8`.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use topology_schema::{Check, InterfaceName, Link, Name};

/// The address of an object or of one of its entries. Sorted as text, so an object comes before
/// its entries. One that is read comes from what was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub struct Address(String);

impl Address {
    /// `cube/NAME`
    pub fn cube(name: &Name) -> Self {
        Self(format!("cube/{name}"))
    }

    /// `namespace/NAME`
    pub fn namespace(name: &Name) -> Self {
        Self(format!("namespace/{name}"))
    }

    /// `interface/NAME`
    pub fn interface(name: &InterfaceName) -> Self {
        Self(format!("interface/{name}"))
    }

    /// `link/A--B`, the ends in the order in which they sort, whatever the file says.
    pub fn link(link: &Link) -> Self {
        let (mut a, mut b) = (&link.0, &link.1);
        if b < a {
            (a, b) = (b, a);
        }
        Self(format!("link/{a}--{b}"))
    }

    /// `check/NAME`, or its place in the list.
    pub fn check(check: &Check, index: usize) -> Self {
        match &check.name {
            Some(name) => Self(format!("check/{name}")),
            None => Self(format!("check/{index}")),
        }
    }

    /// `topology`: the record of what was applied.
    pub fn topology() -> Self {
        Self("topology".to_owned())
    }

    /// An entry below this object.
    pub fn entry(&self, field: &str, key: &str) -> Self {
        Self(format!("{}/{field}/{key}", self.0))
    }

    /// The same, with the entry's path already put together.
    pub fn below(&self, path: &str) -> Self {
        Self(format!("{}/{path}", self.0))
    }

    /// True if `other` is this object or one of its entries.
    pub fn contains(&self, other: &Self) -> bool {
        other
            .0
            .strip_prefix(&self.0)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// True for an object, false for an entry of one. A link's ends may have slashes of their own.
    pub fn is_object(&self) -> bool {
        self.0.starts_with("link/") || self.0.matches('/').count() == 1
    }

    /// True for what is only looked at: it carries no packets.
    pub fn is_check(&self) -> bool {
        self.0.starts_with("check/")
    }

    /// The object this is an entry of, or itself.
    pub fn object(&self) -> Self {
        Self(self.object_text().to_owned())
    }

    /// The same as text.
    pub fn object_text(&self) -> &str {
        if self.is_object() {
            return &self.0;
        }
        let end = self
            .0
            .match_indices('/')
            .nth(1)
            .map_or(self.0.len(), |(end, _)| end);
        &self.0[..end]
    }

    /// The path of an entry below its object: field and key.
    pub fn field_and_key(&self) -> Option<(&str, &str)> {
        if self.is_object() {
            return None;
        }
        self.0.splitn(3, '/').nth(2)?.split_once('/')
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}
