//! Packets through a router with few and with many routes, beside the kernel's forwarding.

use std::{collections::BTreeSet, fmt::Write as _};

use ebpf_abi::bench::{Bound, WORK_FIB};
use integration_tests::test_run::Hook;

use super::{
    KERNEL, Row, Scope,
    bridge::redirecting,
    topology::{SOURCE, on, one, routed, router_with},
    word,
};
use crate::{
    contest::{Contest, Other},
    finding::{Finding, Goal, Instrument, Unit},
    machine::first_line,
    rig::{
        frames::{Flow, Frames, RECEIVER, mac, shuffled},
        path::{Path, Rate, apply},
        traffic::{attach, bound, ifindex},
    },
    statistics::Random,
};

/// Routes of a topology at most; more come from a table of the kernel.
const STATIC: usize = 50_000;
/// Destinations at most, each in another route.
const DESTINATIONS: usize = 1 << 16;

/// The rows.
pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, routes) in [("1", 1), ("1k", 1000), ("100k", 100_000), ("1m", 1_000_000)] {
        for hook in [Hook::Xdp, Hook::Tc] {
            let id = format!("router.path-{name}.{}", word(hook));
            let job = format!(
                "packets of 64 bytes through a router with {routes} routes of /24, random destinations"
            );
            let row = Row::new(id, Instrument::Path, job, move |scope| {
                Ok(path(scope, hook, routes))
            });
            rows.push(if routes > 1000 { row.long() } else { row });
        }
    }
    rows
}

/// Networks of /24, as their first three bytes, the same at every run: none of them of the ways themselves.
pub fn networks(count: usize) -> Vec<[u8; 3]> {
    let mut random = Random(11);
    let mut networks = BTreeSet::new();
    while networks.len() < count {
        let [.., b, c] = (random.next() as u32).to_be_bytes();
        let first = 11 + random.below(90) as u8;
        networks.insert([first, b, c]);
    }
    shuffled(networks.into_iter().collect())
}

/// One packet to each of the networks, or to so many of them.
fn frames(networks: &[[u8; 3]]) -> Frames {
    let flows = networks.iter().take(DESTINATIONS);
    let flow = |[a, b, c]: &[u8; 3]| Flow::new(SOURCE, [*a, *b, *c, 7]);
    Frames::routed(flows.map(flow).collect())
}

/// Lets the kernel forward in the middle of a way.
pub fn kernel_router(path: &Path, networks: &[[u8; 3]]) {
    path.set("net.ipv4.ip_forward", "1");
    path.set("net.ipv4.conf.all.rp_filter", "0");
    path.set(&format!("net.ipv4.conf.{}.rp_filter", path.input()), "0");
    let (input, output) = (path.input(), path.output());
    let mut lines = format!(
        "address add 10.0.1.1/24 dev {input}\naddress add 10.0.2.1/24 dev {output}\n\
         neighbor replace 10.0.2.2 lladdr {} dev {output} nud permanent\n",
        mac(RECEIVER)
    );
    for [a, b, c] in networks {
        let _ = writeln!(lines, "route add {a}.{b}.{c}.0/24 via 10.0.2.2");
    }
    path.ip(&lines);
}

/// Applies a router with these routes: from the file, or from the namespace in which the kernel has them.
fn spec(ours: &Path, hook: Hook, networks: &[[u8; 3]], kernel: &Path) -> String {
    if networks.len() <= STATIC {
        let routes: Vec<String> = networks
            .iter()
            .map(|[a, b, c]| format!("{{ to: {a}.{b}.{c}.0/24, via: 10.0.2.2 }}"))
            .collect();
        let routes = format!("[{}]", routes.join(", "));
        return one(ours, hook, &router_with("", "", &routes));
    }
    let from = format!(
        "[], routesFrom: {{ namespace: {}, maxRoutes: 1048576 }}",
        kernel.middle.name()
    );
    let cube = router_with("", "", &from);
    on(
        ours,
        hook,
        &format!("  cubes: {{ c: {{ {cube} }} }}\n  links: [[c:a, INPUT], [c:b, OUTPUT]]\n"),
    )
}

fn path(scope: &Scope<'_>, hook: Hook, routes: usize) -> Finding {
    let networks = networks(routes);
    let frames = frames(&networks);
    let ours = Path::through_lab("a");
    let linux = Path::apart("linux");
    let bare = Path::apart("bare");
    kernel_router(&linux, &networks);
    let _applied = apply(scope.lab, "router", &spec(&ours, hook, &networks, &linux));
    let _redirect = redirecting(&bare, hook);
    let fib = (hook == Hook::Xdp && routes <= STATIC).then(|| {
        let path = Path::apart("fib");
        kernel_router(&path, &networks);
        let settings = Bound {
            // Says only that something is sent: the kernel's tables say where.
            ifindex: ifindex(&path.middle, &path.output()),
            work: WORK_FIB,
        };
        let program = bound(hook, settings);
        let link = attach(&path.middle, &path.input(), hook, program.program());
        let rate = ready(&path, &frames, hook);
        (path, program, link, rate)
    });
    let of_pcn = ready(&ours, &frames, hook);
    let of_linux = ready(&linux, &frames, Hook::Tc);
    let of_redirect = bare.rate(&frames, hook);
    let least = match (hook, routes) {
        (Hook::Tc, _) => None,
        (Hook::Xdp, 1 | 1000) => Some(Goal::AtLeast(3.0)),
        (Hook::Xdp, 100_000) => Some(Goal::AtLeast(2.8)),
        (Hook::Xdp, _) => Some(Goal::AtLeast(2.5)),
    };
    let mut contest = Contest::new(Unit::MegaPackets, "pcn", || of_pcn.sample())
        .against(
            Other::Peer("ip forwarding", &first_line(KERNEL)),
            least,
            || of_linux.sample(),
        )
        .against(Other::Bound("redirect, nothing else"), None, || {
            of_redirect.sample()
        });
    if let Some((.., rate)) = &fib {
        contest = contest.against(
            Other::Peer("bpf_fib_lookup, as xdp-forward", ""),
            Goal::AtLeast(1.15),
            || rate.sample(),
        );
    }
    contest.run(scope.effort)
}

/// Insists that the first packet arrives routed.
fn ready(path: &Path, frames: &Frames, sink: Hook) -> Rate {
    let rate = path.rate(frames, sink);
    rate.check(&routed(&frames.flows[0]));
    rate
}
