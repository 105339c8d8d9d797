//! Packets through a firewall with few and with many rules, beside those of the kernel.

mod peers;

use std::{fmt::Write as _, net::Ipv4Addr};

use integration_tests::{test_run::Hook, wait};

use self::peers::{Filter, filtered};
pub use self::peers::{iptables, nft};
use super::{
    Row, Scope,
    bridge::redirecting,
    router::effort,
    topology::{SOURCE, routed_of, router_and, router_of},
    word,
};
use crate::{
    contest::{Contest, Other},
    finding::{Finding, Goal, Instrument, Unit},
    rig::{
        frames::{Family, Flow, Frames, by_port, shuffled, v6},
        path::{Path, Rate, apply},
        traffic::{Sender, Sink},
    },
};

/// Rules of a list.
const COUNTS: [(&str, usize); 4] = [("0", 0), ("100", 100), ("1k", 1000), ("10k", 10_000)];
/// Connections that are established at the same time.
const ESTABLISHED: usize = 256;
/// Connections that are begun in one sample: fewer than any of the tables holds.
const NEW: usize = 30_000;

/// The rows.
pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for hook in [Hook::Xdp, Hook::Tc] {
        for (name, count) in COUNTS {
            let id = format!("firewall.rules-{name}.{}", word(hook));
            let job = format!(
                "{count} rules, connections not tracked: each packet meets them, another one each time"
            );
            let row = Row::new(id, Instrument::Path, job, move |scope| {
                Ok(rules(scope, hook, Family::V4, count))
            });
            rows.push(if count > 100 { row.long() } else { row });
        }
        let id = format!("firewall.rules-0-v6.{}", word(hook));
        let job = "0 rules, connections not tracked, IPv6";
        let row = Row::new(id, Instrument::Path, job, move |scope| {
            Ok(rules(scope, hook, Family::V6, 0))
        });
        rows.push(row.long());
        for (name, count) in COUNTS {
            let id = format!("firewall.established-{name}.{}", word(hook));
            let job =
                format!("packets of {ESTABLISHED} established connections through {count} rules");
            let row = Row::new(id, Instrument::Path, job, move |scope| {
                Ok(established(scope, hook, Family::V4, count))
            });
            rows.push(if count > 100 { row.long() } else { row });
        }
        let id = format!("firewall.established-100-v6.{}", word(hook));
        let job =
            format!("packets of {ESTABLISHED} established connections through 100 rules, IPv6");
        let row = Row::new(id, Instrument::Path, job, move |scope| {
            Ok(established(scope, hook, Family::V6, 100))
        });
        rows.push(row.long());
        let id = format!("firewall.new.{}", word(hook));
        let job =
            format!("packets that each begin a connection, {NEW} in a row, through 100 rules");
        rows.push(Row::new(id, Instrument::Path, job, move |scope| {
            Ok(new_connections(scope, hook))
        }));
    }
    rows
}

/// What a rule accepts: one destination and one port.
fn target(number: usize) -> ([u8; 4], u16) {
    let [.., a, b, c] = (number as u32 + 1).to_be_bytes();
    ([20, a, b, c], 5000 + (number % 7) as u16)
}

/// An address as a family writes it.
fn address(family: Family, of: [u8; 4]) -> String {
    match family {
        Family::V4 => Ipv4Addr::from(of).to_string(),
        Family::V6 => v6(of).to_string(),
    }
}

/// One packet for each rule, in no order; with no rules, one for each of a hundred.
fn packets(count: usize) -> Frames {
    let flow = |number: usize| {
        let (destination, port) = target(number);
        Flow {
            source: SOURCE,
            destination,
            ports: [10_000, port],
        }
    };
    let count = if count == 0 { 100 } else { count };
    Frames::routed(shuffled((0..count).map(flow).collect()))
}

/// So many packets, each of another connection, that rules accept.
fn connections(count: usize, rules: usize) -> Frames {
    let mut flows = by_port(count, SOURCE, [0; 4]);
    for (number, flow) in flows.iter_mut().enumerate() {
        let (destination, port) = target(number % rules.max(1));
        flow.destination = destination;
        flow.ports[1] = port;
    }
    Frames::routed(flows)
}

/// The cube `fw`.
fn cube(family: Family, count: usize, tracked: bool) -> String {
    let mut text = format!("fw: {{ firewall: {{ conntrack: {tracked}");
    if count > 0 {
        text += ", ingress: { default: drop, rules: [\n";
        for number in 0..count {
            let (destination, port) = target(number);
            let length = match family {
                Family::V4 => 32,
                Family::V6 => 128,
            };
            let _ = writeln!(
                text,
                "{{ destination: '{}/{length}', protocol: udp, destinationPort: {port}, action: accept }},",
                address(family, destination)
            );
        }
        text += "] }";
    }
    text + " } }"
}

/// The spec of a router with the firewall at its inner port.
pub fn spec(path: &Path, hook: Hook, count: usize, tracked: bool) -> String {
    spec_of(path, hook, Family::V4, count, tracked)
}

/// The same of a family.
fn spec_of(path: &Path, hook: Hook, family: Family, count: usize, tracked: bool) -> String {
    let router = router_of(family, "fw", "");
    router_and(path, hook, &router, &cube(family, count, tracked))
}

/// Insists that the first packet arrives routed.
fn ready(path: &Path, frames: &Frames, sink: Hook) -> Rate {
    let rate = path.rate(frames, sink);
    rate.check(&routed_of(frames.family, &frames.flows[0]));
    rate
}

/// These filters, each in a way of its own.
fn filtering(
    filters: &[Filter],
    family: Family,
    count: usize,
    tracked: bool,
) -> Vec<(Filter, Path)> {
    let way = |filter: &Filter| (*filter, filtered(*filter, family, count, tracked));
    filters.iter().map(way).collect()
}

/// What passes each of them.
fn rates(peers: &[(Filter, Path)], frames: &Frames) -> Vec<(Filter, Rate)> {
    let rate = |(filter, path): &(Filter, Path)| (*filter, ready(path, frames, Hook::Tc));
    peers.iter().map(rate).collect()
}

fn rules(scope: &Scope<'_>, hook: Hook, family: Family, count: usize) -> Finding {
    let frames = packets(count).of(family);
    let (ours, empty, bare) = (
        Path::through_lab("a"),
        Path::through_lab("b"),
        Path::apart("bare"),
    );
    let _applied = apply(
        scope.lab,
        "rules",
        &spec_of(&ours, hook, family, count, false),
    );
    let _empty = apply(scope.lab, "empty", &spec_of(&empty, hook, family, 0, false));
    let _redirect = redirecting(&bare, hook);
    let peers = filtering(Filter::all(family), family, count, false);
    let rates = rates(&peers, &frames);
    let of_pcn = ready(&ours, &frames, hook);
    let of_empty = ready(&empty, &frames, hook);
    let of_redirect = bare.rate(&frames, hook);
    let mut contest = Contest::new(Unit::MegaPackets, "pcn", || of_pcn.sample());
    for (filter, rate) in &rates {
        let goal = match (hook, filter, count) {
            (Hook::Tc, ..) | (_, _, 0) | (_, Filter::NftLinear, _) => None,
            (_, Filter::NftSet, _) => Some(Goal::AtLeast(2.0)),
            (_, Filter::Iptables, 100) => Some(Goal::AtLeast(4.0)),
            (_, Filter::Iptables, 1000) => Some(Goal::AtLeast(8.0)),
            (_, Filter::Iptables, _) => Some(Goal::AtLeast(50.0)),
        };
        contest = contest.against(Other::Peer(filter.name(), &filter.version()), goal, || {
            rate.sample()
        });
    }
    if count > 0 {
        // A cost of 1.25 and 1.5 times that without rules.
        let goal = match (hook, count) {
            (Hook::Xdp, 1000) => Some(Goal::AtLeast(0.8)),
            (Hook::Xdp, 10_000) => Some(Goal::AtLeast(0.67)),
            _ => None,
        };
        contest = contest.against(Other::Own("pcn, no rules"), goal, || of_empty.sample());
    }
    contest
        .against(Other::Bound("redirect, nothing else"), None, || {
            of_redirect.sample()
        })
        .run(effort(scope, family))
}

/// Begins connections, answers, and goes on: from then on they are established. `hook` is where frames arrive from the middle.
fn establish(path: &Path, frames: &Frames, hook: Hook) {
    let count = frames.flows.len() as u32;
    let sender = Sender::new(&path.source, "eth0", frames);
    let answers = Sink::new(&path.source, "eth0", hook);
    sender.send(count);
    path.answer(frames);
    let mut arrived = 0;
    wait::until("all answers to arrive", || {
        arrived += answers.arrived();
        (arrived >= u64::from(count)).then_some(())
    });
    sender.send(count);
}

fn established(scope: &Scope<'_>, hook: Hook, family: Family, count: usize) -> Finding {
    let frames = connections(ESTABLISHED, count).of(family);
    let (ours, empty, bare) = (
        Path::through_lab("a"),
        Path::through_lab("b"),
        Path::apart("bare"),
    );
    let _applied = apply(
        scope.lab,
        "rules",
        &spec_of(&ours, hook, family, count, true),
    );
    let _empty = apply(scope.lab, "empty", &spec_of(&empty, hook, family, 0, true));
    let _redirect = redirecting(&bare, hook);
    let peers = filtering(Filter::tracking(family), family, count, true);
    for (_, path) in &peers {
        establish(path, &frames, Hook::Tc);
    }
    for path in [&ours, &empty] {
        establish(path, &frames, hook);
    }
    let rates = rates(&peers, &frames);
    let of_pcn = ready(&ours, &frames, hook);
    let of_empty = ready(&empty, &frames, hook);
    let of_redirect = bare.rate(&frames, hook);
    let same = (count == 10_000).then_some(Goal::AtLeast(0.95));
    let mut contest = Contest::new(Unit::MegaPackets, "pcn", || of_pcn.sample());
    for (filter, rate) in &rates {
        let (name, goal) = match filter {
            Filter::Iptables => ("iptables-legacy conntrack", None),
            _ => (
                "nft ct state",
                (hook == Hook::Xdp).then_some(Goal::AtLeast(3.0)),
            ),
        };
        contest = contest.against(Other::Peer(name, &filter.version()), goal, || rate.sample());
    }
    if count > 0 {
        contest = contest.against(Other::Own("pcn, no rules"), same, || of_empty.sample());
    }
    contest
        .against(Other::Bound("redirect, nothing else"), None, || {
            of_redirect.sample()
        })
        .run(effort(scope, family))
}

fn new_connections(scope: &Scope<'_>, hook: Hook) -> Finding {
    const RULES: usize = 100;
    let frames = connections(NEW, RULES);
    let ours = Path::through_lab("a");
    let _applied = apply(scope.lab, "new", &spec(&ours, hook, RULES, true));
    let peers =
        [Filter::NftSet, Filter::Iptables].map(|filter| filtered(filter, Family::V4, RULES, true));
    let rates = [&peers[0], &peers[1]].map(|path| ready(path, &frames, Hook::Tc));
    let [of_nft, of_iptables] = &rates;
    let of_pcn = ready(&ours, &frames, hook);
    // Each time as if nothing had been seen.
    Contest::new(Unit::MegaPackets, "pcn", || {
        scope.lab.pcn("flush new fw/sessions").expect(0);
        of_pcn.send(NEW as u32)
    })
    .against(
        Other::Peer("nft ct state, one set", &Filter::NftSet.version()),
        None,
        || {
            peers[0].forget_connections();
            of_nft.send(NEW as u32)
        },
    )
    .against(
        Other::Peer("iptables-legacy conntrack", &Filter::Iptables.version()),
        None,
        || {
            peers[1].forget_connections();
            of_iptables.send(NEW as u32)
        },
    )
    .run(scope.effort)
}
