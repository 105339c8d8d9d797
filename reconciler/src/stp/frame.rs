//! BPDUs in Ethernet frames: as IEEE 802.1D-2004 has them (7.12.3, 9.3), and one per VLAN as
//! PVST+ and Rapid-PVST+ have them.

use super::bpdu::{Bpdu, Invalid, LONGEST};

/// The bridge group address (Table 7-10).
pub const BRIDGE_GROUP: [u8; 6] = [0x01, 0x80, 0xc2, 0x00, 0x00, 0x00];
/// Where BPDUs of a VLAN go.
pub const PVST_GROUP: [u8; 6] = [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcd];

/// LLC: destination and source are the spanning tree protocol, unnumbered information.
const LLC: [u8; 3] = [0x42, 0x42, 0x03];
/// LLC and SNAP: organisation 00-00-0C, protocol 01-0B.
const SNAP: [u8; 8] = [0xaa, 0xaa, 0x03, 0x00, 0x00, 0x0c, 0x01, 0x0b];
/// Type 0, length 2: the VLAN for which the message was sent.
const ORIGINATING_VLAN: [u8; 4] = [0, 0, 0, 2];
/// Smallest frame, without the check sequence.
const SHORTEST: usize = 60;
/// Ethertypes of a VLAN tag: the customer's, which we write, and the service provider's.
const TAGS: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];
/// Priority 7, network control (IEEE 802.1Q-2018, Annex I): a tree must not break because
/// links are busy.
const NETWORK_CONTROL: u16 = 7 << 13;

/// A message as it came out of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// In the format of IEEE 802.1D.
    Common(Bpdu),
    /// In that of PVST+, with the VLAN it was sent for. Notifications may leave that out.
    OfVlan(Option<u16>, Bpdu),
}

/// Why a frame was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoBpdu {
    /// It is cut off, or its length is not what it says.
    #[error("the frame is cut off")]
    Length,
    /// Another protocol on these addresses.
    #[error("the frame is of another protocol")]
    Other,
    /// A message that is none.
    #[error("the BPDU is {0}")]
    Invalid(#[from] Invalid),
    /// It does not say for which VLAN it is.
    #[error("the BPDU says no VLAN")]
    NoVlan,
}

/// Reads a frame. A tag is passed over: which VLAN it means on a port is the bridge's to say.
///
/// # Errors
///
/// There is no BPDU in it.
pub fn decode(frame: &[u8]) -> Result<Received, NoBpdu> {
    let (addresses, mut rest) = frame.split_at_checked(12).ok_or(NoBpdu::Length)?;
    if TAGS.iter().any(|tag| rest.starts_with(tag)) {
        rest = rest.get(4..).ok_or(NoBpdu::Length)?;
    }
    let (length, rest) = rest.split_first_chunk().ok_or(NoBpdu::Length)?;
    let length = usize::from(u16::from_be_bytes(*length));
    let payload = rest.get(..length).ok_or(NoBpdu::Length)?;
    if addresses.starts_with(&BRIDGE_GROUP) {
        let bpdu = payload.strip_prefix(&LLC).ok_or(NoBpdu::Other)?;
        return Ok(Received::Common(Bpdu::decode(bpdu)?));
    }
    if addresses.starts_with(&PVST_GROUP) {
        let payload = payload.strip_prefix(&SNAP).ok_or(NoBpdu::Other)?;
        let bpdu = Bpdu::decode(payload)?;
        let trailer = payload.get(LONGEST..).unwrap_or_default();
        let vlan = match trailer.strip_prefix(&ORIGINATING_VLAN) {
            Some([p, q, ..]) => Some(u16::from_be_bytes([*p, *q])),
            _ if bpdu == Bpdu::Tcn => None,
            _ => return Err(NoBpdu::NoVlan),
        };
        return Ok(Received::OfVlan(vlan, bpdu));
    }
    Err(NoBpdu::Other)
}

/// The frame for a message of the common instance, or of the one VLAN of an access port.
pub fn encode(source: [u8; 6], bpdu: &Bpdu) -> Vec<u8> {
    let mut payload = LLC.to_vec();
    payload.extend(bpdu.encode());
    assemble(BRIDGE_GROUP, source, None, &payload)
}

/// The frame for a message of a VLAN's instance, tagged unless it is the native VLAN.
pub fn encode_for_vlan(source: [u8; 6], vlan: u16, tagged: bool, bpdu: &Bpdu) -> Vec<u8> {
    let mut payload = SNAP.to_vec();
    payload.extend(bpdu.encode());
    payload.resize(SNAP.len() + LONGEST, 0);
    payload.extend(ORIGINATING_VLAN);
    payload.extend(vlan.to_be_bytes());
    assemble(PVST_GROUP, source, tagged.then_some(vlan), &payload)
}

fn assemble(to: [u8; 6], source: [u8; 6], tag: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(SHORTEST + 4);
    frame.extend(to);
    frame.extend(source);
    let mut shortest = SHORTEST;
    if let Some(vlan) = tag {
        frame.extend(TAGS[0]);
        frame.extend((NETWORK_CONTROL | vlan).to_be_bytes());
        shortest += 4;
    }
    // A length, not an ethertype: at most 53.
    frame.extend((payload.len() as u16).to_be_bytes());
    frame.extend(payload);
    frame.resize(frame.len().max(shortest), 0);
    frame
}

#[cfg(test)]
mod tests;
