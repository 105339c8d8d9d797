//! Where the two differ on purpose. Each difference is in `docs/reference/firewall.md`, with its reason.

use integration_tests::{command::run, packet::*};

use super::{
    script::{ACK, FIN, RST, SYN},
    *,
};

/// Whether the last event may have another verdict, after what was before it.
pub(super) fn is_known(events: &[Event], mode: Mode) -> bool {
    let port = events.last().map(|event| event.port);
    let of_this = events.iter().filter(|event| Some(event.port) == port);
    let of_this: Vec<_> = of_this.filter_map(|event| event.segment).collect();
    is_reopened_after_reset(&of_this)
        || is_answered_twice(&of_this)
        || match mode {
            Mode::Flags => has_begun_anew(&of_this) || is_challenged(&of_this),
            Mode::Windows => has_bare_reset(&of_this),
        }
}

fn is(segment: &Segment, flags: u8) -> bool {
    segment.flags & (SYN | ACK) == flags
}

/// A SYN that comes after a reset: unless it is what the side that has reset sends next, it belongs for Linux to the connection
/// that was, until it is answered. Here it begins another one, about which the rules decide.
fn is_reopened_after_reset(segments: &[Segment]) -> bool {
    let mut resets = segments.iter().enumerate();
    resets.any(|(at, segment)| {
        let mut later = segments[at..].iter();
        segment.flags & RST != 0 && later.any(|segment| is(segment, SYN))
    })
}

/// Both sides open at once, and the one that was second sends an ACK before the first one answers: to Linux the handshake
/// is complete then, here when the first one has sent its ACK.
fn is_answered_twice(segments: &[Segment]) -> bool {
    let opens = |by_client: bool| {
        let mut syns = segments.iter().filter(|segment| is(segment, SYN));
        syns.any(|segment| segment.by_client == by_client)
    };
    let answers = segments.iter().filter(|segment| is(segment, SYN | ACK));
    opens(true) && opens(false) && answers.count() > 1
}

/// A SYN in the middle of a connection, which is answered: without numbers nobody knows that the answer is one to this
/// SYN. With `tcpWindowCheck`, both take it for a new beginning.
fn has_begun_anew(segments: &[Segment]) -> bool {
    let mut syns = segments.iter().enumerate().skip(1);
    syns.any(|(at, syn)| {
        let mut later = segments[at..].iter();
        is(syn, SYN)
            && later.any(|answer| is(answer, SYN | ACK) && answer.by_client != syn.by_client)
    })
}

/// A SYN after both sides have closed, and an ACK that says so: without numbers it is taken for the last one, and the connection
/// for one that is over. With `tcpWindowCheck`, it is not in either.
fn is_challenged(segments: &[Segment]) -> bool {
    let mut syns = segments.iter().enumerate().skip(1);
    syns.any(|(at, syn)| {
        let closes = |by_client: bool| {
            let mut before = segments[..at].iter();
            before.any(|segment| segment.flags & FIN != 0 && segment.by_client == by_client)
        };
        let mut later = segments[at..].iter();
        let mut answers = later.by_ref().filter(|segment| is(segment, ACK));
        is(syn, SYN)
            && closes(true)
            && closes(false)
            && answers.any(|ack| ack.by_client != syn.by_client)
    })
}

/// A reset without ACK. Linux compares what it acknowledges, which is nothing, with what was noted, which may be nothing, and
/// believes some of them wherever the windows are.
fn has_bare_reset(segments: &[Segment]) -> bool {
    let mut segments = segments.iter();
    segments.any(|segment| segment.flags & (RST | ACK) == RST)
}

/// One firewall that lets everything begin from inside; with the settings of Linux that are not those of the other tests.
fn verdicts(sysctl: &str, policy: Policy, events: &[(Direction, Packet)]) -> Vec<(bool, bool)> {
    private_net::run(|_| {
        let linux = Linux::new(Mode::Flags);
        if !sysctl.is_empty() {
            run(&format!("sysctl -qw {sysctl}")).expect(0);
        }
        let pair = Pair::new(&linux, Hook::Tc, policy, Mode::Flags);
        let events = events.iter().map(|(direction, packet)| Event {
            direction: *direction,
            frames: vec![packet.bytes()],
            says: String::new(),
            port: 0,
            segment: None,
        });
        events.map(|event| pair.meet(&event)).collect()
    })
}

const OUTWARDS: Policy = Policy([ANSWERS, BEGINNINGS]);

/// In the order of the table in the reference: here, and in Linux.
#[test]
fn what_differs_on_purpose() {
    if !require::root() {
        return;
    }
    use Direction::{Egress, Ingress};
    let out = |flags| (Egress, from_b(tcp(1000, 80).flags(flags)));
    let back = |flags| (Ingress, from_a(tcp(80, 1000).flags(flags)));

    // A connection that is older than the firewall: Linux takes it over, unless it is told not to.
    let pickup = [out(ACK), back(ACK)];
    let (here, linux) = ((false, false), (true, true));
    let loose = verdicts("net.netfilter.nf_conntrack_tcp_loose=1", OUTWARDS, &pickup);
    assert_eq!(loose, [(here.0, linux.0), (here.1, linux.1)]);

    // A SYN after the reset of the other side. Only what is established may go out, so it is dropped here.
    let established_only = Policy([BEGINNINGS, ANSWERS]);
    let server = |flags| (Egress, from_b(tcp(80, 1000).flags(flags)));
    let client = |flags| {
        (
            Ingress,
            from_a(tcp(1000, 80).flags(flags).acknowledgment(0)),
        )
    };
    let events = [
        client(SYN),
        server(SYN | ACK),
        client(ACK),
        client(RST),
        server(ACK),
        server(SYN),
    ];
    let reopened = verdicts("", established_only, &events);
    assert!(
        reopened[..3]
            .iter()
            .all(|verdicts| *verdicts == (true, true)),
        "{reopened:?}"
    );

    // A wrong checksum, of TCP, UDP or ICMP.
    let wrong = ether(IN, OUT) / ipv4(B, A) / Icmp::checksum(echo(1, 1), 1);
    let checksums = verdicts("", OUTWARDS, &[(Egress, wrong)]);
    assert_eq!(checksums, [(true, false)]);

    // A message of ICMP that nobody answers.
    let router_advertisement = (Egress, from_b(icmp(9, 0, 0)));
    let other = verdicts("", Policy([ANSWERS, ALL]), &[router_advertisement]);
    assert_eq!(other, [(false, true)]);

    // URG with SYN and ACK, or with RST.
    let urgent = [out(SYN), back(SYN | ACK | 0x20)];
    assert_eq!(
        verdicts("", OUTWARDS, &urgent),
        [(true, true), (true, false)]
    );

    // SCTP that begins without INIT.
    let data = ether(IN, OUT)
        / ipv4(B, A).protocol(132)
        / raw(&[
            0, 1, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 3, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0,
        ]);
    assert_eq!(
        verdicts(
            "net.netfilter.nf_conntrack_checksum=0",
            OUTWARDS,
            &[(Egress, data)]
        ),
        [(true, false)]
    );
}
