//! Device features, by ethtool's netlink family (which, unlike its ioctl, needs no unsafe code).

use netlink_packet_core::{DecodeError, DefaultNla, Emitable, NLA_F_NESTED, parse_u16, parse_u32};
use nix::libc;

use super::{Error, Netlink, behind, for_attributes, text};

/// The length of `struct genlmsghdr`.
const HEADER: usize = 4;
/// The name of generic receive offload in `ethtool -k` is `generic-receive-offload`; this is the kernel's.
const GRO: &str = "rx-gro";

// Numbers of `linux/genetlink.h`.
const FIND_FAMILY: u8 = 3;
const FAMILY_NUMBER: u16 = 1;
const FAMILY_NAME: u16 = 2;
// Numbers of `linux/ethtool_netlink.h`.
const GET_FEATURES: u8 = 11;
const SET_FEATURES: u8 = 12;
const DEVICE: u16 = 1 | NLA_F_NESTED;
const DEVICE_NAME: u16 = 2;
const WANTED: u16 = 3 | NLA_F_NESTED;
const ACTIVE: u16 = 4;
const SET_BITS: u16 = 3;
const BIT: u16 = 1;
const BIT_NAME: u16 = 2;
const BIT_VALUE: u16 = 3;
const GET_LINK_MODES: u8 = 4;
const SPEED: u16 = 5;

/// A message of a generic netlink family: the command and the attributes.
struct Message(u8, Vec<DefaultNla>);

impl Emitable for Message {
    fn buffer_len(&self) -> usize {
        HEADER + self.1.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        let (header, attributes) = buffer.split_at_mut(HEADER);
        // Command, version, reserved.
        header.copy_from_slice(&[self.0, 1, 0, 0]);
        self.1.as_slice().emit(attributes);
    }
}

impl Netlink {
    /// Switches generic receive offload of an interface. For a veth "on" also means that packets arrive by NAPI, which
    /// lets native XDP run on it.
    ///
    /// # Errors
    ///
    /// [`Error::is_not_found`] if there is no such interface.
    pub fn set_gro(&mut self, ifname: &str, on: bool) -> Result<(), Error> {
        let mut bit = vec![string(BIT_NAME, GRO)];
        bit.extend(on.then(|| DefaultNla::new(BIT_VALUE, Vec::new())));
        let bits = nested(SET_BITS | NLA_F_NESTED, &[nested(BIT | NLA_F_NESTED, &bit)]);
        let message = Message(SET_FEATURES, vec![device(ifname), nested(WANTED, &[bits])]);
        let call = format_args!(
            "switch GRO of interface {ifname} {}",
            if on { "on" } else { "off" }
        );
        self.ethtool(&message, call, |_| Ok(()))
    }

    /// Whether generic receive offload of an interface is on.
    ///
    /// # Errors
    ///
    /// [`Error::is_not_found`] if there is no such interface.
    pub fn gro(&mut self, ifname: &str) -> Result<bool, Error> {
        let mut on = false;
        let message = Message(GET_FEATURES, vec![device(ifname)]);
        self.ethtool(
            &message,
            format_args!("ask for GRO of interface {ifname}"),
            |answer| {
                on |= is_active(answer)?;
                Ok(())
            },
        )?;
        Ok(on)
    }

    /// The speed of an interface in Mb/s; `None` if it has none, or none now.
    ///
    /// # Errors
    ///
    /// [`Error::is_not_found`] if there is no such interface.
    pub fn speed(&mut self, ifname: &str) -> Result<Option<u32>, Error> {
        let mut speed = None;
        let message = Message(GET_LINK_MODES, vec![device(ifname)]);
        self.ethtool(
            &message,
            format_args!("ask for the speed of interface {ifname}"),
            |answer| {
                for_attributes(behind(answer, HEADER)?, |kind, value| {
                    if kind == SPEED {
                        // -1: unknown (`SPEED_UNKNOWN`).
                        speed = Some(parse_u32(value)?).filter(|speed| *speed != u32::MAX);
                    }
                    Ok(())
                })
            },
        )?;
        Ok(speed)
    }

    /// Sends a message to the ethtool family, whose number is asked for the first time.
    fn ethtool(
        &mut self,
        message: &Message,
        call: std::fmt::Arguments<'_>,
        mut each: impl FnMut(&[u8]) -> Result<(), DecodeError>,
    ) -> Result<(), Error> {
        let family = match self.ethtool_family {
            Some(family) => Ok(family),
            None => {
                let mut family = 0;
                let question = Message(FIND_FAMILY, vec![string(FAMILY_NAME, "ethtool")]);
                let answer =
                    self.generic
                        .request(libc::GENL_ID_CTRL as u16, 0, &question, &mut |answer| {
                            for_attributes(behind(answer, HEADER)?, |kind, value| {
                                if kind == FAMILY_NUMBER {
                                    family = parse_u16(value)?;
                                }
                                Ok(())
                            })
                        });
                answer.map(|()| *self.ethtool_family.insert(family))
            }
        };
        family
            .and_then(|family| self.generic.request(family, 0, message, &mut each))
            .map_err(|failure| failure.during(call, self.namespace.as_deref()))
    }
}

/// Which device a message is about.
fn device(name: &str) -> DefaultNla {
    nested(DEVICE, &[string(DEVICE_NAME, name)])
}

fn string(kind: u16, value: &str) -> DefaultNla {
    DefaultNla::new(kind, [value.as_bytes(), &[0]].concat())
}

fn nested(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    let mut value = vec![0; attributes.buffer_len()];
    attributes.emit(&mut value);
    DefaultNla::new(kind, value)
}

/// Whether the answer lists GRO among the active features.
fn is_active(answer: &[u8]) -> Result<bool, DecodeError> {
    let mut active = false;
    // The set of active features, its list of members, one member, the member's name.
    let path = [ACTIVE, SET_BITS, BIT, BIT_NAME];
    descend(behind(answer, HEADER)?, &path, &mut |name| {
        active |= text(name) == GRO
    })?;
    Ok(active)
}

/// Calls `found` with each value at the end of `path`, a kind for each level of attributes.
fn descend(bytes: &[u8], path: &[u16], found: &mut dyn FnMut(&[u8])) -> Result<(), DecodeError> {
    let Some((wanted, below)) = path.split_first() else {
        found(bytes);
        return Ok(());
    };
    for_attributes(bytes, |kind, value| {
        if kind == *wanted {
            descend(value, below, found)
        } else {
            Ok(())
        }
    })
}
