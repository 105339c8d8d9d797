//! Applies from nothing.

use std::fmt::Write as _;

use integration_tests::test_run::Hook;

use super::{MANY, Scope, apart, effort, filter, timed, timed_in, with_goal};
use crate::{
    contest::{Contest, Effort, Other},
    finding::{Finding, Goal, Unit},
    machine::package,
    rig::{
        frames::Family,
        path::{Path, text},
    },
    rows::{
        firewall::{iptables, nft, spec},
        router::{listed, networks, prefixes},
        topology::{one, router_with},
    },
};

/// Rounds with a thousand cubes or a hundred thousand routes are this many times fewer.
const FEWER: usize = 4;

/// Time of an apply from nothing; what it made is removed again.
fn first(scope: &Scope<'_>, file: &str) -> f64 {
    let took = timed(scope.lab.command(&format!("apply --yes -f {file}")));
    scope.lab.pcn("destroy --yes plan").expect(0);
    took
}

/// What is asked of an apply of so many elements.
fn first_goal(count: usize) -> Option<f64> {
    match count {
        10 => Some(15.0),
        1000 => Some(20.0),
        10_000 => Some(40.0),
        100_000 => Some(250.0),
        _ => None,
    }
}

pub(super) fn first_rules(scope: &Scope<'_>, count: usize) -> Finding {
    let (ours, peer) = (Path::through_lab("a"), apart());
    let file = scope.lab.file(
        "rules.yaml",
        &text("plan", &spec(&ours, Hook::Tc, count, false)),
    );
    let linear = scope.lab.file("rules.nft", &nft(count, false, false));
    let set = scope.lab.file("set.nft", &nft(count, false, true));
    let restore = scope.lab.file("rules.iptables", &iptables(count, false));
    let flushed = |file: &str| {
        peer.middle.run("nft flush ruleset").expect(0);
        timed_in(&peer.middle, &format!("nft -f {file}"))
    };
    let (times, sets) = match count {
        10_000 => (Some(Goal::AtMost(0.33)), Some(Goal::AtMost(0.67))),
        _ => (None, None),
    };
    let contest = Contest::new(Unit::Milliseconds, "pcn apply", || first(scope, &file))
        .against(
            Other::Peer("nft -f, one rule each", &package("nftables")),
            times,
            || flushed(&linear),
        )
        .against(
            Other::Peer("nft -f, one set", &package("nftables")),
            sets,
            || flushed(&set),
        )
        .against(
            Other::Peer("iptables-legacy-restore", &package("iptables")),
            times,
            || {
                peer.middle.run("iptables-legacy -F").expect(0);
                timed_in(&peer.middle, &format!("iptables-legacy-restore {restore}"))
            },
        );
    with_goal(contest, first_goal(count)).run(effort(scope, count))
}

pub(super) fn first_prefixes(scope: &Scope<'_>, count: usize) -> Finding {
    let (ours, peer) = (Path::through_lab("a"), apart());
    let file = scope
        .lab
        .file("prefixes.yaml", &text("plan", &filter(&ours, count)));
    let mut elements =
        String::from("table inet t {\nset s {\ntype ipv4_addr\nflags interval\nelements = {\n");
    let mut set = format!("create s hash:net maxelem {}\n", count.max(65_536));
    for [a, b, c] in networks(count) {
        let _ = writeln!(elements, "{a}.{b}.{c}.0/24,");
        let _ = writeln!(set, "add s {a}.{b}.{c}.0/24");
    }
    let elements = scope.lab.file("set.nft", &(elements + "}\n}\n}\n"));
    let set = scope.lab.file("set.ipset", &set);
    let contest = Contest::new(Unit::Milliseconds, "pcn apply", || first(scope, &file))
        .against(
            Other::Peer("nft -f, set of networks", &package("nftables")),
            None,
            || {
                peer.middle.run("nft flush ruleset").expect(0);
                timed_in(&peer.middle, &format!("nft -f {elements}"))
            },
        )
        .against(
            Other::Peer("ipset restore", &package("ipset")),
            None,
            || {
                let _absent = peer.middle.run("ipset destroy s");
                timed_in(&peer.middle, &format!("ipset restore -file {set}"))
            },
        );
    with_goal(contest, first_goal(count)).run(effort(scope, count))
}

pub(super) fn first_routes(scope: &Scope<'_>, count: usize) -> Finding {
    let (ours, peer) = (Path::through_lab("a"), apart());
    let networks = networks(count);
    let routes = listed(Family::V4, &prefixes(Family::V4, &networks));
    let spec = one(&ours, Hook::Tc, &router_with(Family::V4, "", "", &routes));
    let file = scope.lab.file("routes.yaml", &text("plan", &spec));
    peer.ip(&format!("address add 10.0.2.1/24 dev {}\n", peer.output()));
    let lines: String = networks
        .iter()
        .map(|[a, b, c]| format!("route add {a}.{b}.{c}.0/24 via 10.0.2.2\n"))
        .collect();
    let batch = scope.lab.file("routes.ip", &lines);
    let contest = Contest::new(Unit::Milliseconds, "pcn apply", || first(scope, &file)).against(
        Other::Peer("ip -batch", &package("iproute2")),
        None,
        || {
            peer.middle.run("ip route flush proto boot").expect(0);
            timed_in(&peer.middle, &format!("ip -batch {batch}"))
        },
    );
    with_goal(contest, first_goal(count)).run(fewer(scope, count >= MANY))
}

/// Less is done where there are many.
fn fewer(scope: &Scope<'_>, many: bool) -> Effort {
    if many {
        scope.effort.divided(FEWER)
    } else {
        scope.effort
    }
}

/// Cubes of one kind in a row, without an interface: what programs of one shape cost.
pub(super) fn first_cubes(scope: &Scope<'_>, count: usize) -> Finding {
    let cubes: String = (0..count)
        .map(|number| format!("    h{number}: {{ hello: {{}} }}\n"))
        .collect();
    let links: String = (1..count)
        .map(|number| format!("    - [h{}:b, h{number}:a]\n", number - 1))
        .collect();
    let spec = format!("  cubes:\n{cubes}  links:\n{links}");
    let file = scope.lab.file("cubes.yaml", &text("plan", &spec));
    let goal = match count {
        10 => Some(30.0),
        1000 => Some(500.0),
        _ => None,
    };
    let contest = Contest::new(Unit::Milliseconds, "pcn apply", || first(scope, &file));
    let finding = with_goal(contest, goal).run(fewer(scope, count >= 1000));
    let each = finding.value().median * 1e3 / count as f64;
    finding.note(format!("{each:.0} µs for each cube"))
}
