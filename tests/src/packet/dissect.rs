//! From bytes to something a person can read, and to what is wrong with them.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, Ipv6Addr},
};

use super::assemble::{checksum, checksum_with_pseudo_header};

/// Why two frames are not equal, with both taken apart; `None` if they are.
pub fn difference(expected: &[u8], got: &[u8]) -> Option<String> {
    if expected == got {
        return None;
    }
    let first = expected
        .iter()
        .zip(got)
        .position(|(a, b)| a != b)
        .unwrap_or(expected.len().min(got.len()));
    let mut text = format!("first difference at byte {first}\n");
    for (what, frame) in [("expected", expected), ("got", got)] {
        let _ = writeln!(text, "  {what}, {} bytes:", frame.len());
        for line in Dissector::run(frame).lines {
            let _ = writeln!(text, "    {line}");
        }
        hex(&mut text, frame, first);
    }
    Some(text)
}

/// What is wrong with a frame that a data plane made or changed: lengths and checksums. A cut-off
/// frame inside an ICMP error is not looked at.
pub fn problems(frame: &[u8]) -> Vec<String> {
    Dissector::run(frame).problems
}

/// Lines of 16 bytes around the interesting one, which is in brackets.
fn hex(text: &mut String, frame: &[u8], mark: usize) {
    for (index, line) in frame.chunks(16).enumerate() {
        let start = index * 16;
        if start + 48 < mark || start > mark + 64 {
            continue;
        }
        let _ = write!(text, "    {start:4}:");
        for (offset, byte) in line.iter().enumerate() {
            let (open, close) = if start + offset == mark {
                ('[', ']')
            } else {
                (' ', ' ')
            };
            let _ = write!(text, "{open}{byte:02x}{close}");
        }
        text.push('\n');
    }
}

#[derive(Default)]
struct Dissector {
    lines: Vec<String>,
    problems: Vec<String>,
}

impl Dissector {
    fn run(frame: &[u8]) -> Self {
        let mut dissector = Self::default();
        dissector.ethernet(frame);
        dissector
    }

    /// Notes whether a checksum is right; returns the word for it.
    fn sum(&mut self, layer: &str, right: bool) -> &'static str {
        if !right {
            self.problems.push(format!("{layer}: wrong checksum"));
        }
        if right { "ok" } else { "WRONG" }
    }

    fn problem(&mut self, problem: impl Into<String>) {
        let problem = problem.into();
        self.lines.push(format!("? {problem}"));
        self.problems.push(problem);
    }

    fn ethernet(&mut self, frame: &[u8]) {
        let Some((header, mut rest)) = frame.split_at_checked(14) else {
            return self.problem("ethernet: cut off");
        };
        let mut ethertype = word(header, 12);
        self.lines.push(format!(
            "ethernet {} > {} type {ethertype:04x}",
            mac(&header[6..12]),
            mac(&header[..6]),
        ));
        while let (0x8100 | 0x88a8, Some((tag, inner))) = (ethertype, rest.split_at_checked(4)) {
            ethertype = word(tag, 2);
            self.lines.push(format!(
                "vlan {} priority {:x} type {ethertype:04x}",
                word(tag, 0) & 0xfff,
                word(tag, 0) >> 12,
            ));
            rest = inner;
        }
        match ethertype {
            0x0800 => self.ipv4(rest),
            0x0806 => self.arp(rest),
            0x86dd => self.ipv6(rest),
            _ => {}
        }
    }

    fn arp(&mut self, bytes: &[u8]) {
        let Some(arp) = bytes.get(..28) else {
            return self.problem("arp: cut off");
        };
        self.lines.push(format!(
            "arp operation {} sender {} {} target {} {}",
            word(arp, 6),
            mac(&arp[8..14]),
            v4(&arp[14..18]),
            mac(&arp[18..24]),
            v4(&arp[24..28]),
        ));
    }

    fn ipv4(&mut self, bytes: &[u8]) {
        let length = bytes
            .first()
            .map_or(0, |first| usize::from(first & 0xf) * 4);
        let Some(header) = bytes.get(..length).filter(|header| header.len() >= 20) else {
            return self.problem("ipv4: cut off");
        };
        let total = usize::from(word(header, 2));
        let right = self.sum("ipv4", checksum(header) == 0);
        self.lines.push(format!(
            "ipv4 {} > {} header {length} total {total} tos {:02x} id {:04x} fragment {:04x} ttl {} protocol {} checksum {:04x} {right}",
            v4(&header[12..16]),
            v4(&header[16..20]),
            header[1],
            word(header, 4),
            word(header, 6),
            header[8],
            header[9],
            word(header, 10),
        ));
        let Some(inside) = bytes.get(length..total) else {
            return self.problem("ipv4: total length");
        };
        if word(header, 6) & 0x3fff == 0 {
            self.upper(header[9], &header[12..20], inside);
        }
    }

    fn ipv6(&mut self, bytes: &[u8]) {
        let Some((header, rest)) = bytes.split_at_checked(40) else {
            return self.problem("ipv6: cut off");
        };
        let length = usize::from(word(header, 4));
        self.lines.push(format!(
            "ipv6 {} > {} first word {:02x?} length {length} next {} hops {}",
            v6(&header[8..24]),
            v6(&header[24..40]),
            &header[..4],
            header[6],
            header[7],
        ));
        let Some(inside) = rest.get(..length) else {
            return self.problem("ipv6: payload length");
        };
        self.upper(header[6], &header[8..40], inside);
    }

    fn upper(&mut self, protocol: u8, addresses: &[u8], bytes: &[u8]) {
        let minimum = match protocol {
            1 | 17 | 58 => 8,
            6 => 20,
            _ => return,
        };
        if bytes.len() < minimum {
            return self.problem(format!("protocol {protocol}: cut off"));
        }
        let zero = if protocol == 1 {
            checksum(bytes)
        } else {
            checksum_with_pseudo_header(addresses, protocol, bytes)
        };
        let name = match protocol {
            1 => "icmp",
            6 => "tcp",
            17 => "udp",
            _ => "icmpv6",
        };
        let right = self.sum(name, zero == 0);
        self.lines.push(match protocol {
            6 | 17 => format!(
                "{name} {} > {} checksum {right}",
                word(bytes, 0),
                word(bytes, 2)
            ),
            _ => format!(
                "{name} type {} code {} checksum {:04x} {right} rest {:02x?}",
                bytes[0],
                bytes[1],
                word(bytes, 2),
                &bytes[4..8],
            ),
        });
    }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn mac(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(":")
}

fn v4(bytes: &[u8]) -> Ipv4Addr {
    <[u8; 4]>::try_from(bytes).expect("four bytes").into()
}

fn v6(bytes: &[u8]) -> Ipv6Addr {
    <[u8; 16]>::try_from(bytes).expect("sixteen bytes").into()
}
