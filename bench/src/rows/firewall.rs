//! Packets through a firewall with few and with many rules, beside those of the kernel.

use std::fmt::Write as _;

use integration_tests::{command::run_with, test_run::Hook};

use super::{
    Row, Scope,
    bridge::redirecting,
    router::kernel_router,
    topology::{SOURCE, routed, router, router_and},
    word,
};
use crate::{
    contest::{Contest, Other},
    finding::{Finding, Goal, Instrument, Unit},
    machine::package,
    rig::{
        frames::{Flow, Frames, by_port, shuffled},
        path::{Path, Rate, apply},
        traffic::Sender,
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
                Ok(rules(scope, hook, count))
            });
            rows.push(if count > 100 { row.long() } else { row });
        }
        for (name, count) in COUNTS {
            let id = format!("firewall.established-{name}.{}", word(hook));
            let job =
                format!("packets of {ESTABLISHED} established connections through {count} rules");
            let row = Row::new(id, Instrument::Path, job, move |scope| {
                Ok(established(scope, hook, count))
            });
            rows.push(if count > 100 { row.long() } else { row });
        }
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
fn cube(count: usize, tracked: bool) -> String {
    let mut text = format!("fw: {{ firewall: {{ conntrack: {tracked}");
    if count > 0 {
        text += ", ingress: { default: drop, rules: [\n";
        for number in 0..count {
            let ([a, b, c, d], port) = target(number);
            let _ = writeln!(
                text,
                "{{ destination: {a}.{b}.{c}.{d}/32, protocol: udp, destinationPort: {port}, action: accept }},"
            );
        }
        text += "] }";
    }
    text + " } }"
}

/// Who filters in the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filter {
    NftLinear,
    NftSet,
    Iptables,
}

impl Filter {
    const ALL: [Self; 3] = [Self::NftSet, Self::NftLinear, Self::Iptables];

    fn name(self) -> &'static str {
        match self {
            Self::NftLinear => "nft, one rule each",
            Self::NftSet => "nft, one set",
            Self::Iptables => "iptables-legacy",
        }
    }

    fn tag(self) -> &'static str {
        match self {
            Self::NftLinear => "linear",
            Self::NftSet => "set",
            Self::Iptables => "ipt",
        }
    }

    fn version(self) -> String {
        package(match self {
            Self::NftLinear | Self::NftSet => "nftables",
            Self::Iptables => "iptables",
        })
    }

    /// Makes the kernel in the middle of a way filter.
    fn load(self, path: &Path, count: usize, tracked: bool) {
        let (command, text) = match self {
            Self::NftLinear | Self::NftSet => {
                ("nft -f -", nft(count, tracked, self == Self::NftSet))
            }
            Self::Iptables => ("iptables-legacy-restore", iptables(count, tracked)),
        };
        path.middle.enter(|| run_with(command, &text)).expect(0);
    }
}

/// A chain of nftables.
pub fn nft(count: usize, tracked: bool, as_set: bool) -> String {
    let policy = if count == 0 { "accept" } else { "drop" };
    let mut text = String::from("table inet t {\n");
    if as_set && count > 0 {
        text += "map m { type ipv4_addr . inet_service : verdict\nelements = {\n";
        for number in 0..count {
            let ([a, b, c, d], port) = target(number);
            let _ = writeln!(text, "{a}.{b}.{c}.{d} . {port} : accept,");
        }
        text += "}\n}\n";
    }
    let _ = writeln!(
        text,
        "chain c {{ type filter hook forward priority 0; policy {policy};"
    );
    if tracked {
        text += "ct state established,related accept\n";
    }
    if as_set && count > 0 {
        text += "ip protocol udp ip daddr . udp dport vmap @m\n";
    } else {
        for number in 0..count {
            let ([a, b, c, d], port) = target(number);
            let _ = writeln!(text, "ip daddr {a}.{b}.{c}.{d} udp dport {port} accept");
        }
    }
    text + "}\n}\n"
}

/// The same for iptables.
pub fn iptables(count: usize, tracked: bool) -> String {
    let policy = if count == 0 { "ACCEPT" } else { "DROP" };
    let mut text = format!("*filter\n:INPUT ACCEPT\n:FORWARD {policy}\n:OUTPUT ACCEPT\n");
    if tracked {
        text += "-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n";
    }
    for number in 0..count {
        let ([a, b, c, d], port) = target(number);
        let _ = writeln!(
            text,
            "-A FORWARD -d {a}.{b}.{c}.{d}/32 -p udp --dport {port} -j ACCEPT"
        );
    }
    text + "COMMIT\n"
}

/// The spec of a router with the firewall at its inner port.
pub fn spec(path: &Path, hook: Hook, count: usize, tracked: bool) -> String {
    router_and(path, hook, &router("fw", ""), &cube(count, tracked))
}

/// A way through the kernel's router with one of the filters.
fn filtered(filter: Filter, count: usize, tracked: bool) -> Path {
    let path = Path::apart(filter.tag());
    kernel_router(&path, &[[20, 0, 0]]);
    path.ip("route replace 20.0.0.0/8 via 10.0.2.2\n");
    filter.load(&path, count, tracked);
    path
}

/// Insists that the first packet arrives routed.
fn ready(path: &Path, frames: &Frames, sink: Hook) -> Rate {
    let rate = path.rate(frames, sink);
    rate.check(&routed(&frames.flows[0]));
    rate
}

fn rules(scope: &Scope<'_>, hook: Hook, count: usize) -> Finding {
    let frames = packets(count);
    let (ours, empty, bare) = (
        Path::through_lab("a"),
        Path::through_lab("b"),
        Path::apart("bare"),
    );
    let _applied = apply(scope.lab, "rules", &spec(&ours, hook, count, false));
    let _empty = apply(scope.lab, "empty", &spec(&empty, hook, 0, false));
    let _redirect = redirecting(&bare, hook);
    let peers: Vec<(Filter, Path)> = Filter::ALL
        .into_iter()
        .map(|filter| (filter, filtered(filter, count, false)))
        .collect();
    let rates: Vec<(Filter, Rate)> = peers
        .iter()
        .map(|(filter, path)| (*filter, ready(path, &frames, Hook::Tc)))
        .collect();
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
        .run(scope.effort)
}

/// Begins connections, answers, and goes on: from then on they are established.
pub fn establish(path: &Path, frames: &Frames) {
    let count = frames.flows.len() as u32;
    let sender = Sender::new(&path.source, "eth0", frames);
    sender.send(count);
    path.answer(frames);
    sender.send(count);
}

fn established(scope: &Scope<'_>, hook: Hook, count: usize) -> Finding {
    let frames = connections(ESTABLISHED, count);
    let (ours, empty, bare) = (
        Path::through_lab("a"),
        Path::through_lab("b"),
        Path::apart("bare"),
    );
    let _applied = apply(scope.lab, "rules", &spec(&ours, hook, count, true));
    let _empty = apply(scope.lab, "empty", &spec(&empty, hook, 0, true));
    let _redirect = redirecting(&bare, hook);
    let peers = [Filter::NftSet, Filter::Iptables].map(|filter| filtered(filter, count, true));
    for path in peers.iter().chain([&ours, &empty]) {
        establish(path, &frames);
    }
    let rates = [
        ready(&peers[0], &frames, Hook::Tc),
        ready(&peers[1], &frames, Hook::Tc),
    ];
    let [of_nft, of_iptables] = &rates;
    let of_pcn = ready(&ours, &frames, hook);
    let of_empty = ready(&empty, &frames, hook);
    let of_redirect = bare.rate(&frames, hook);
    let least = (hook == Hook::Xdp).then_some(Goal::AtLeast(3.0));
    let same = (count == 10_000).then_some(Goal::AtLeast(0.95));
    let mut contest = Contest::new(Unit::MegaPackets, "pcn", || of_pcn.sample())
        .against(
            Other::Peer("nft ct state", &Filter::NftSet.version()),
            least,
            || of_nft.sample(),
        )
        .against(
            Other::Peer("iptables-legacy conntrack", &Filter::Iptables.version()),
            None,
            || of_iptables.sample(),
        );
    if count > 0 {
        contest = contest.against(Other::Own("pcn, no rules"), same, || of_empty.sample());
    }
    contest
        .against(Other::Bound("redirect, nothing else"), None, || {
            of_redirect.sample()
        })
        .run(scope.effort)
}

fn new_connections(scope: &Scope<'_>, hook: Hook) -> Finding {
    const RULES: usize = 100;
    let frames = connections(NEW, RULES);
    let ours = Path::through_lab("a");
    let _applied = apply(scope.lab, "new", &spec(&ours, hook, RULES, true));
    let peers = [Filter::NftSet, Filter::Iptables].map(|filter| filtered(filter, RULES, true));
    let rates = [&peers[0], &peers[1]].map(|path| ready(path, &frames, Hook::Tc));
    let [of_nft, of_iptables] = &rates;
    let of_pcn = ready(&ours, &frames, hook);
    // Each time as if nothing had been seen.
    let forget = |path: &Path| {
        path.middle.run("conntrack -F").expect(0);
    };
    Contest::new(Unit::MegaPackets, "pcn", || {
        scope.lab.pcn("flush new fw/sessions").expect(0);
        of_pcn.send(NEW as u32)
    })
    .against(
        Other::Peer("nft ct state, one set", &Filter::NftSet.version()),
        None,
        || {
            forget(&peers[0]);
            of_nft.send(NEW as u32)
        },
    )
    .against(
        Other::Peer("iptables-legacy conntrack", &Filter::Iptables.version()),
        None,
        || {
            forget(&peers[1]);
            of_iptables.send(NEW as u32)
        },
    )
    .run(scope.effort)
}
