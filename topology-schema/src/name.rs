//! Names: of topologies, cubes, ports and namespaces, and of network interfaces.

use std::fmt;
use std::str::FromStr;

use crate::text::{ValueCode, ValueError, quote, text_type};

/// Longest [`Name`], in characters.
pub const MAX_NAME_LENGTH: usize = 32;

/// Longest [`InterfaceName`], in bytes: the kernel's `IFNAMSIZ` without its final zero.
pub const MAX_INTERFACE_NAME_LENGTH: usize = 15;

/// Interface names that the kernel keeps for its own settings (`/proc/sys/net/ipv4/conf/all`).
const RESERVED_INTERFACE_NAMES: [&str; 2] = ["all", "default"];

/// Name of a topology, a cube, a port or a namespace: lower-case letters, digits and inner hyphens, 1 to 32 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let invalid = |reason: &str| {
            Err(ValueError::new(
                ValueCode::InvalidName,
                format!("{} is no name: {reason}", quote(text)),
            ))
        };
        if text.is_empty() {
            return Err(ValueError::new(
                ValueCode::InvalidName,
                "a name must not be empty",
            ));
        }
        if text.chars().count() > MAX_NAME_LENGTH {
            return invalid("it is longer than 32 characters");
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if let Some(wrong) = text.chars().find(|&c| !allowed(c)) {
            let message = format!(
                "{} is no name: {} is not allowed in it",
                quote(text),
                quote(&wrong.to_string())
            );
            let corrected = text.to_lowercase().replace(['_', '.', ' '], "-");
            let usable = corrected.chars().all(allowed)
                && !corrected.starts_with('-')
                && !corrected.ends_with('-');
            let help = if usable {
                format!("did you mean `{corrected}`?")
            } else {
                "use lower-case letters, digits and hyphens".to_owned()
            };
            return Err(ValueError::new(ValueCode::InvalidName, message).help(help));
        }
        if text.starts_with('-') || text.ends_with('-') {
            return invalid("it begins or ends with a hyphen");
        }
        Ok(Self(text.to_owned()))
    }
}

text_type!(
    Name,
    "Name",
    expecting "a name of lower-case letters, digits and hyphens",
    pattern "^(?=.{1,32}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    "Name of a topology, a cube, a port or a namespace: lower-case letters, digits and inner hyphens, 1 to 32 characters."
);

/// Name of a network interface as the kernel accepts it: 1 to 15 printable ASCII characters without `/`, `:`, `%`
/// and blanks; not `.`, `..`, `all` or `default`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let invalid = |reason: String| {
            let message = format!("{} is no interface name: {reason}", quote(text));
            Err(ValueError::new(ValueCode::InvalidInterfaceName, message))
        };
        if text.is_empty() {
            return Err(ValueError::new(
                ValueCode::InvalidInterfaceName,
                "an interface name must not be empty",
            ));
        }
        if text.len() > MAX_INTERFACE_NAME_LENGTH {
            return invalid("it is longer than 15 bytes".to_owned());
        }
        if text == "." || text == ".." || RESERVED_INTERFACE_NAMES.contains(&text) {
            return invalid("the kernel keeps it for itself".to_owned());
        }
        // `%` is a place holder for a number when the kernel makes an interface.
        let allowed = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '%');
        if let Some(wrong) = text.chars().find(|&c| !allowed(c)) {
            return invalid(format!(
                "{} is not allowed in it",
                quote(&wrong.to_string())
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

text_type!(
    InterfaceName,
    "InterfaceName",
    expecting "the name of a network interface",
    pattern r"^(?!(\.|\.\.|all|default)$)[!-$&-.0-9;-~]{1,15}$",
    "Name of a network interface: 1 to 15 printable ASCII characters without `/`, `:`, `%` and blanks; not `.`, `..`, `all` or `default`."
);

macro_rules! text_access {
    ($type:ty) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text_access!(Name);
text_access!(InterfaceName);
