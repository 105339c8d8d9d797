//! Where in a document something is, independent of its text.

use std::borrow::Cow;
use std::fmt;

/// One step into a document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// Into a mapping, by key.
    Key(Cow<'static, str>),
    /// Into a list, by position from 0.
    Index(usize),
}

/// A road from the root of a document to a value: `spec.cubes.br1.bridge.fdb[2].port`.
///
/// A key that would not read back is quoted: `spec.interfaces["eth0.100"]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Vec<Segment>);

impl Path {
    /// The document itself.
    #[must_use]
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// The path one key deeper.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.then(Segment::Key(Cow::Owned(key.to_owned())))
    }

    /// The path one list item deeper.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.then(Segment::Index(index))
    }

    /// The steps, from the root.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// Whether one of the two paths leads to or through the other.
    #[must_use]
    pub fn is_related_to(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a == b)
    }

    /// The position in a list, if this is the path of one of its items.
    pub(crate) fn index_in(&self, list: &Self) -> Option<usize> {
        match self.0.strip_prefix(list.0.as_slice())? {
            [Segment::Index(index)] => Some(*index),
            _ => None,
        }
    }

    pub(crate) fn of(keys: &[&'static str]) -> Self {
        Self(
            keys.iter()
                .map(|&key| Segment::Key(Cow::Borrowed(key)))
                .collect(),
        )
    }

    pub(crate) fn then(&self, segment: Segment) -> Self {
        let mut segments = Vec::with_capacity(self.0.len() + 1);
        segments.extend_from_slice(&self.0);
        segments.push(segment);
        Self(segments)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) if is_plain(key) => {
                    write!(f, "{}{key}", if position == 0 { "" } else { "." })?
                }
                Segment::Key(key) => write!(f, "[{key:?}]")?,
            }
        }
        Ok(())
    }
}

fn is_plain(key: &str) -> bool {
    !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
}
