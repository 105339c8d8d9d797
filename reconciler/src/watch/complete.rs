//! Checksums that senders on this machine leave for later.
//!
//! Such a packet carries the sum over its pseudo-header only, and a note for the kernel that is
//! not part of the packet. What waits loses the note, so the rest is added here.

use ebpf_abi::checksum;

const ETHERNET: usize = 14;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Completes the checksum of a TCP or UDP packet, if that was left for later. One that is right,
/// or wrong in another way, stays.
pub fn complete(frame: &mut [u8]) {
    // There is nothing to complete in what is cut off or not understood.
    let _as_it_is = segment(frame);
}

fn segment(frame: &mut [u8]) -> Option<()> {
    let (protocol, addresses, start, end) = match frame.get(12..ETHERNET)? {
        [0x08, 0x00] => v4(frame)?,
        [0x86, 0xdd] => v6(frame)?,
        _ => return None,
    };
    let field = match protocol {
        TCP => 16,
        UDP => 6,
        _ => return None,
    };
    let length = u32::try_from(end.checked_sub(start)?).ok()?;
    let header = checksum::sum(frame.get(addresses)?)
        + checksum::sum(&length.to_be_bytes())
        + checksum::sum(&[0, protocol]);
    let field = start + field..start + field + 2;
    let bytes = frame.get(start..end)?;
    let right = checksum::fold(header + checksum::sum(bytes)) == 0xffff;
    let left = frame.get(field.clone())? == checksum::fold(header).to_ne_bytes();
    if right || !left {
        return None;
    }
    // The field holds the sum over the pseudo-header, so that is included.
    let sum = match !checksum::fold(checksum::sum(bytes)) {
        // Zero says that there is none (RFC 768).
        0 => 0xffff,
        sum => sum,
    };
    frame.get_mut(field)?.copy_from_slice(&sum.to_ne_bytes());
    Some(())
}

/// Protocol, where addresses are, and where the payload begins and ends.
type Layout = (u8, std::ops::Range<usize>, usize, usize);

fn v4(frame: &[u8]) -> Option<Layout> {
    let header = usize::from(frame.get(ETHERNET)? & 0xf) * 4;
    let total = usize::from(be16(frame, ETHERNET + 2)?);
    // A fragment's checksum was complete before it was cut.
    if be16(frame, ETHERNET + 6)? & 0x3fff != 0 {
        return None;
    }
    let addresses = ETHERNET + 12..ETHERNET + 20;
    Some((
        *frame.get(ETHERNET + 9)?,
        addresses,
        ETHERNET + header,
        ETHERNET + total,
    ))
}

fn v6(frame: &[u8]) -> Option<Layout> {
    let end = ETHERNET + 40 + usize::from(be16(frame, ETHERNET + 4)?);
    let mut next = *frame.get(ETHERNET + 6)?;
    let mut at = ETHERNET + 40;
    // Hop-by-hop options, routing, destination options (RFC 8200, 4).
    while matches!(next, 0 | 43 | 60) {
        next = *frame.get(at)?;
        at += (usize::from(*frame.get(at + 1)?) + 1) * 8;
    }
    Some((next, ETHERNET + 8..ETHERNET + 40, at, end))
}

fn be16(frame: &[u8], at: usize) -> Option<u16> {
    let bytes = frame.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A UDP packet; its checksum is zero.
    fn udp_v4(payload: &[u8]) -> Vec<u8> {
        let length = 8 + payload.len() as u16;
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend((20 + length).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, UDP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0x10, 0, 0x20, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(payload);
        frame
    }

    /// A TCP packet behind hop-by-hop options; its checksum is zero.
    fn tcp_v6(payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend((8 + 20 + payload.len() as u16).to_be_bytes());
        frame.extend([0, 64]);
        frame.extend([0xfd; 16]);
        frame.extend([0xfe; 16]);
        frame.extend([TCP, 0, 1, 4, 0, 0, 0, 0]);
        frame.extend([0x10; 16]);
        frame.extend([0, 0, 0, 0]);
        frame.extend(payload);
        frame
    }

    /// Pseudo-header and segment of a frame that these tests made.
    fn summed(frame: &[u8]) -> (u64, std::ops::Range<usize>, usize) {
        let (start, addresses, protocol, field) = match frame[12] {
            0x08 => (34, 26..34, UDP, 34 + 6),
            _ => (62, 22..54, TCP, 62 + 16),
        };
        let length = (frame.len() - start) as u32;
        let header = checksum::sum(&frame[addresses])
            + checksum::sum(&length.to_be_bytes())
            + checksum::sum(&[0, protocol]);
        (header, start..frame.len(), field)
    }

    fn is_right(frame: &[u8]) -> bool {
        let (header, segment, _) = summed(frame);
        checksum::fold(header + checksum::sum(&frame[segment])) == 0xffff
    }

    fn leave_for_later(frame: &mut [u8]) {
        let (header, _, field) = summed(frame);
        frame[field..field + 2].copy_from_slice(&checksum::fold(header).to_ne_bytes());
    }

    proptest! {
        #[test]
        fn what_was_left_for_later_is_done(
            payload in prop::collection::vec(any::<u8>(), 0..1500),
        ) {
            for mut frame in [udp_v4(&payload), tcp_v6(&payload)] {
                leave_for_later(&mut frame);
                let before = frame.clone();
                complete(&mut frame);
                prop_assert!(is_right(&frame));
                let (_, _, field) = summed(&frame);
                prop_assert_eq!(&frame[..field], &before[..field]);
                prop_assert_eq!(&frame[field + 2..], &before[field + 2..]);
                // Once is enough.
                let done = frame.clone();
                complete(&mut frame);
                prop_assert_eq!(frame, done);
            }
        }

        #[test]
        fn anything_else_stays(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut frame = bytes.clone();
            complete(&mut frame);
            prop_assert_eq!(&frame, &bytes);
            for mut frame in [udp_v4(&bytes), tcp_v6(&bytes)] {
                let (_, _, field) = summed(&frame);
                frame[field] ^= 0x55;
                let wrong = frame.clone();
                complete(&mut frame);
                prop_assert_eq!(&frame, &wrong);
                for length in 0..frame.len() {
                    complete(&mut frame[..length]);
                }
            }
        }
    }

    #[test]
    fn no_checksum_and_fragments_stay() {
        let mut none = udp_v4(&[1, 2, 3]);
        let before = none.clone();
        complete(&mut none);
        assert_eq!(none, before);
        let mut fragment = udp_v4(&[1, 2, 3]);
        leave_for_later(&mut fragment);
        // More of it follows.
        fragment[20] = 0x20;
        let before = fragment.clone();
        complete(&mut fragment);
        assert_eq!(fragment, before);
    }
}
