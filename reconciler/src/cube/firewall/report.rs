//! Packets that a firewall reports.

use ebpf_abi::{
    classifier::{STATE_ESTABLISHED, STATE_INVALID, STATE_NEW, STATE_RELATED},
    firewall::{Report as Record, VERDICT_ACCEPT, VERDICT_LIMITED, VERDICT_REJECT},
    flow::{ICMP, ICMPV6, TCP, has_ports, is_mapped},
};
use topology_schema::cube::firewall::{Spec, TCP_FLAGS};

use super::{
    sessions::{address, protocol},
    show::Names,
};
use crate::{cube::Context, reports::Report};

/// What a record of the ring buffer says.
pub(super) fn report(spec: &Spec, context: &Context<'_>, record: &[u8]) -> Option<Report> {
    let record: Record =
        bytemuck::try_pod_read_unaligned(record.get(..size_of::<Record>())?).ok()?;
    let names = Names::new(spec, context);
    // The rule may have gone since.
    let decided = names
        .get(record.rule, record.identity)
        .unwrap_or("rules/gone")
        .to_owned();
    Some(Report {
        time: record.time,
        decided,
        message: message(&record),
    })
}

/// `drop tcp 192.0.2.1:1000 > 10.0.0.1:22 flags SYN state new length 54`
fn message(record: &Record) -> String {
    let key = &record.key;
    let end = |end, port: ebpf_abi::address::Be16| {
        let text = address(end);
        match (has_ports(key.protocol), is_mapped(end)) {
            (false, _) => text,
            (true, true) => format!("{text}:{}", port.get()),
            (true, false) => format!("[{text}]:{}", port.get()),
        }
    };
    let mut text = format!(
        "{} {} {} > {}",
        verdict(record.verdict),
        protocol(key.protocol),
        end(key.source, key.source_port),
        end(key.destination, key.destination_port),
    );
    match key.protocol {
        TCP => text.push_str(&format!(" flags {}", flags(record.tcp_flags))),
        ICMP | ICMPV6 => text.push_str(&format!(
            " type {} code {}",
            record.icmp_type, record.icmp_code
        )),
        _ => {}
    }
    if let Some(state) = state(record.state) {
        text.push_str(&format!(" state {state}"));
    }
    text.push_str(&format!(" length {}", record.bytes));
    text
}

fn verdict(verdict: u8) -> &'static str {
    match u32::from(verdict) {
        VERDICT_ACCEPT => "accept",
        VERDICT_REJECT => "reject",
        VERDICT_LIMITED => "limit",
        _ => "drop",
    }
}

fn flags(bits: u8) -> String {
    let set = TCP_FLAGS
        .iter()
        .enumerate()
        .filter(|(bit, _)| bits & 1 << bit != 0);
    let names: Vec<&str> = set.map(|(_, name)| *name).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(",")
    }
}

fn state(state: u8) -> Option<&'static str> {
    match state {
        STATE_NEW => Some("new"),
        STATE_ESTABLISHED => Some("established"),
        STATE_RELATED => Some("related"),
        STATE_INVALID => Some("invalid"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ebpf_abi::{
        address::{Be16, V4, V6},
        firewall::VERDICT_DROP,
        flow::{FlowKey, mapped},
    };

    use super::*;

    #[test]
    fn a_report_is_a_line() {
        let mut record = Record {
            key: FlowKey {
                source: mapped(V4::new([192, 0, 2, 1])),
                destination: mapped(V4::new([10, 0, 0, 1])),
                source_port: Be16::new(1000),
                destination_port: Be16::new(22),
                protocol: TCP,
                padding: [0; 3],
            },
            bytes: 54,
            verdict: VERDICT_DROP as u8,
            state: STATE_NEW,
            tcp_flags: 0x12,
            ..Record::default()
        };
        assert_eq!(
            message(&record),
            "drop tcp 192.0.2.1:1000 > 10.0.0.1:22 flags SYN,ACK state new length 54"
        );
        record.key.protocol = ICMPV6;
        record.key.source = V6::UNSPECIFIED;
        record.state = 16;
        record.icmp_type = 143;
        assert_eq!(
            message(&record),
            "drop icmpv6 :: > 10.0.0.1 type 143 code 0 length 54"
        );
    }
}
