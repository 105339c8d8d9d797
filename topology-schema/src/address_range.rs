//! Addresses that follow one another.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::addr::IPV4;
use crate::text::{ValueCode, ValueError, quote, text_type};

/// One address, or all from one to another: `203.0.113.10`, `203.0.113.10-203.0.113.20`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

impl AddressRange {
    /// The addresses from `first` to `last`, both included; `None` if there are none, or if one is
    /// IPv4 and the other is not.
    #[must_use]
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(Self { first, last })
    }

    /// The first address.
    #[must_use]
    pub const fn first(self) -> IpAddr {
        self.first
    }

    /// The last address.
    #[must_use]
    pub const fn last(self) -> IpAddr {
        self.last
    }

    /// How many addresses there are; the largest number if there are more.
    #[must_use]
    pub fn count(self) -> usize {
        let count = match (self.first, self.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                u128::from(u32::from(last) - u32::from(first)) + 1
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                (u128::from(last) - u128::from(first)).saturating_add(1)
            }
            _ => 0,
        };
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// The addresses, in order.
    pub fn addresses(self) -> impl Iterator<Item = IpAddr> {
        (0..self.count()).map_while(move |index| match self.first {
            IpAddr::V4(first) => u32::try_from(index)
                .ok()
                .and_then(|index| u32::from(first).checked_add(index))
                .map(|bits| IpAddr::V4(bits.into())),
            IpAddr::V6(first) => u128::from(first)
                .checked_add(index as u128)
                .map(|bits| IpAddr::V6(bits.into())),
        })
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return self.first.fmt(f);
        }
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for AddressRange {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        first
            .parse()
            .ok()
            .zip(last.parse().ok())
            .and_then(|(first, last)| Self::new(first, last))
            .ok_or_else(|| {
                ValueError::new(
                    ValueCode::InvalidAddress,
                    format!("{} is no IP address and no range of them", quote(text)),
                )
                .help(
                    "write an address, or two with the lower one first: 203.0.113.10-203.0.113.20",
                )
            })
    }
}

text_type!(
    AddressRange,
    "AddressRange",
    expecting "an IP address or a range such as `203.0.113.10-203.0.113.20`",
    pattern format!("^({IPV4}(-{IPV4})?|(?=[^:]*:[^:]*:)[0-9a-fA-F:.]+(-[0-9a-fA-F:.]+)?)$"),
    "IP address of either family, or a range of them: `203.0.113.10-203.0.113.20`.",
    number |_| None
);
