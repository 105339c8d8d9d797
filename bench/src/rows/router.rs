//! Packets through a router with few and with many routes, beside the kernel's forwarding.

use std::{collections::BTreeSet, fmt::Write as _};

use ebpf_abi::bench::{Bound, WORK_FIB};
use integration_tests::test_run::Hook;

use super::{
    KERNEL, Row, Scope,
    bridge::redirecting,
    topology::{SOURCE, Sides, on, one, routed_of, router_with, sides},
    word,
};
use crate::{
    contest::{Contest, Effort, Other},
    finding::{Finding, Goal, Instrument, Unit},
    machine::first_line,
    rig::{
        frames::{Family, Flow, Frames, RECEIVER, SENDER, mac, shuffled, v6},
        path::{Path, Rate, apply},
        traffic::{attach, bound, ifindex},
    },
    statistics::Random,
};

/// Routes in the file at most; more come from a table of the kernel.
const STATIC: usize = 50_000;
/// Destinations at most, each in another route.
const DESTINATIONS: usize = 1 << 16;

/// The rows.
pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, family, routes) in [
        ("1", Family::V4, 1),
        ("1-v6", Family::V6, 1),
        ("1k", Family::V4, 1000),
        ("1k-v6", Family::V6, 1000),
        ("100k", Family::V4, 100_000),
        ("1m", Family::V4, 1_000_000),
    ] {
        for hook in [Hook::Xdp, Hook::Tc] {
            let id = format!("router.path-{name}.{}", word(hook));
            let length = match family {
                Family::V4 => "/24",
                Family::V6 => "/40 of IPv6",
            };
            let job = format!(
                "packets of 64 bytes through a router with {routes} routes of {length}, random destinations"
            );
            let row = Row::new(id, Instrument::Path, job, move |scope| {
                Ok(path(scope, family, hook, routes))
            });
            let long = routes > 1000 || family == Family::V6;
            rows.push(if long { row.long() } else { row });
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

/// A network as a family writes it.
pub fn prefix(family: Family, [a, b, c]: [u8; 3]) -> String {
    match family {
        Family::V4 => format!("{a}.{b}.{c}.0/24"),
        Family::V6 => {
            let [first, second, third, ..] = v6([a, b, c, 0]).segments();
            format!("{first:x}:{second:x}:{third:x}::/40")
        }
    }
}

/// One packet to each of the networks, or to so many of them.
fn frames(family: Family, networks: &[[u8; 3]]) -> Frames {
    let flows = networks.iter().take(DESTINATIONS);
    let flow = |[a, b, c]: &[u8; 3]| Flow::new(SOURCE, [*a, *b, *c, 7]);
    Frames::routed(flows.map(flow).collect()).of(family)
}

/// Lets the kernel forward in the middle of a way, with these routes.
pub fn kernel_router(path: &Path, family: Family, routes: &[String]) {
    let (input, output) = (path.input(), path.output());
    match family {
        Family::V4 => {
            path.set("net.ipv4.ip_forward", "1");
            path.set("net.ipv4.conf.all.rp_filter", "0");
            path.set(&format!("net.ipv4.conf.{input}.rp_filter"), "0");
        }
        Family::V6 => {
            path.set("net.ipv6.conf.all.forwarding", "1");
            for interface in [&input, &output] {
                path.set(&format!("net.ipv6.conf.{interface}.accept_dad"), "0");
                path.set(&format!("net.ipv6.conf.{interface}.disable_ipv6"), "0");
            }
        }
    }
    let Sides { near, far, .. } = sides(family);
    let ([near, sender], [far, next_hop]) = (near, far);
    let mut lines = format!(
        "address add {near} dev {input}\naddress add {far} dev {output}\n\
         neighbor replace {sender} lladdr {} dev {input} nud permanent\n\
         neighbor replace {next_hop} lladdr {} dev {output} nud permanent\n",
        mac(SENDER),
        mac(RECEIVER)
    );
    for route in routes {
        let _ = writeln!(lines, "route add {route} via {next_hop}");
    }
    path.ip(&lines);
}

/// Routes to networks.
pub fn prefixes(family: Family, networks: &[[u8; 3]]) -> Vec<String> {
    networks
        .iter()
        .map(|network| prefix(family, *network))
        .collect()
}

/// Routes as a topology lists them.
pub fn listed(family: Family, routes: &[String]) -> String {
    let [_, next_hop] = sides(family).far;
    let routes: Vec<String> = routes
        .iter()
        .map(|route| format!("{{ to: '{route}', via: '{next_hop}' }}"))
        .collect();
    format!("[{}]", routes.join(", "))
}

/// Applies a router with these routes: from the file, or from the namespace in which the kernel has them.
fn spec(ours: &Path, hook: Hook, family: Family, routes: &[String], kernel: &Path) -> String {
    if routes.len() <= STATIC {
        return one(
            ours,
            hook,
            &router_with(family, "", "", &listed(family, routes)),
        );
    }
    let from = format!(
        "[], routesFrom: {{ namespace: {}, maxRoutes: 1048576 }}",
        kernel.middle.name()
    );
    let cube = router_with(family, "", "", &from);
    on(
        ours,
        hook,
        &format!("  cubes: {{ c: {{ {cube} }} }}\n  links: [[c:a, INPUT], [c:b, OUTPUT]]\n"),
    )
}

fn path(scope: &Scope<'_>, family: Family, hook: Hook, routes: usize) -> Finding {
    let networks = networks(routes);
    let frames = frames(family, &networks);
    let prefixes = prefixes(family, &networks);
    let ours = Path::through_lab("a");
    let linux = Path::apart("linux");
    let bare = Path::apart("bare");
    kernel_router(&linux, family, &prefixes);
    let _applied = apply(
        scope.lab,
        "router",
        &spec(&ours, hook, family, &prefixes, &linux),
    );
    let _redirect = redirecting(&bare, hook);
    // The program of this bound knows IPv4 alone.
    let fib = (hook == Hook::Xdp && family == Family::V4 && routes <= STATIC).then(|| {
        let path = Path::apart("fib");
        kernel_router(&path, family, &prefixes);
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
    contest.run(effort(scope, family))
}

/// Fewer rounds for the second family: its rows are there to be beside the first one's.
pub fn effort(scope: &Scope<'_>, family: Family) -> Effort {
    match family {
        Family::V4 => scope.effort,
        Family::V6 => scope.effort.with_rounds(10),
    }
}

/// Insists that the first packet arrives routed.
fn ready(path: &Path, frames: &Frames, sink: Hook) -> Rate {
    let rate = path.rate(frames, sink);
    rate.check(&routed_of(frames.family, &frames.flows[0]));
    rate
}
