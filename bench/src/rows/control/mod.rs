//! Plans and applies, beside the tools that write the kernel's own tables.

mod change;
mod first;
mod growth;

use std::{
    process::{Command, Stdio},
    time::Instant,
};

use integration_tests::{lab::Space, test_run::Hook};

use self::{
    change::{one_cube, one_rule},
    first::{first_cubes, first_prefixes, first_routes, first_rules},
    growth::{growth, memory},
};
use super::{
    Findings, Row, Scope,
    firewall::{nft, spec},
    router::{kernel_router, listed, networks, prefixes},
    topology::{one, router_with},
};
use crate::{
    contest::{Contest, Effort, Other},
    finding::{Finding, Goal, Instrument, Unit},
    machine::{milliseconds, package},
    rig::{
        frames::Family,
        path::{Path, text},
    },
};

/// How many elements there are, and how a row calls that.
const RULES: [(&str, usize); 4] = [("10", 10), ("100", 100), ("1k", 1000), ("10k", 10_000)];
const PREFIXES: [(&str, usize); 3] = [("1k", 1000), ("10k", 10_000), ("100k", 100_000)];
const ROUTES: [(&str, usize); 4] = [("10", 10), ("1k", 1000), ("10k", 10_000), ("100k", 100_000)];
const CUBES: [(&str, usize); 3] = [("10", 10), ("100", 100), ("1k", 1000)];
/// From here on fewer rounds do.
const MANY: usize = 100_000;
/// Rounds then.
const FEW: usize = 10;

/// The rows.
pub fn rows() -> Vec<Row> {
    let all = [no_op_rows(), first_rows(), change_rows()];
    all.into_iter().flatten().collect()
}

/// A row with so many elements.
fn row(id: String, job: String, count: usize, measure: fn(&Scope<'_>, usize) -> Finding) -> Row {
    let row = Row::new(id, Instrument::Control, job, move |scope| {
        Ok(measure(scope, count))
    });
    if count > 1000 { row.long() } else { row }
}

fn no_op_rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, count) in RULES {
        rows.push(row(
            format!("control.no-op.rules-{name}"),
            format!(
                "`pcn plan` of a topology that runs already, {count} rules; beside listing as many"
            ),
            count,
            no_op_rules,
        ));
    }
    for (name, count) in PREFIXES {
        rows.push(row(
            format!("control.no-op.prefixes-{name}"),
            format!("`pcn plan` of a topology that runs already, {count} listed networks"),
            count,
            no_op_prefixes,
        ));
    }
    for (name, count) in [("10k", 10_000), ("100k", 100_000)] {
        rows.push(row(
            format!("control.no-op.routes-{name}"),
            format!(
                "`pcn plan` of a router that runs already, {count} routes; beside listing as many"
            ),
            count,
            no_op_routes,
        ));
    }
    rows
}

fn first_rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, count) in RULES {
        rows.push(row(
            format!("control.first.rules-{name}"),
            format!("`pcn apply` of a router with a firewall with {count} rules, from nothing"),
            count,
            first_rules,
        ));
    }
    for (name, count) in PREFIXES {
        rows.push(row(
            format!("control.first.prefixes-{name}"),
            format!("`pcn apply` of a filter with {count} listed networks, from nothing"),
            count,
            first_prefixes,
        ));
    }
    for (name, count) in ROUTES {
        rows.push(row(
            format!("control.first.routes-{name}"),
            format!("`pcn apply` of a router with {count} routes, from nothing"),
            count,
            first_routes,
        ));
    }
    for (name, count) in CUBES {
        let row = row(
            format!("control.first.cubes-{name}"),
            format!(
                "`pcn apply` of {count} cubes hello in a row, without interfaces, from nothing"
            ),
            count,
            first_cubes,
        );
        rows.push(if count >= 1000 { row.long() } else { row });
    }
    rows
}

fn change_rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, count) in RULES {
        rows.push(row(
            format!("control.change.rules-{name}"),
            format!("`pcn apply` where one of {count} rules is another one"),
            count,
            one_rule,
        ));
    }
    rows.push(row(
        "control.memory.rules-10k".to_owned(),
        "memory of `pcn plan` for each further rule, from 10 to 10000".to_owned(),
        10_000,
        memory,
    ));
    rows.push(row(
        "control.growth.rules".to_owned(),
        "exponent with which the time of a plan without changes grows, 1000 to 10000 rules"
            .to_owned(),
        10_000,
        growth,
    ));
    for (name, count) in [("10", 10), ("10k", 10_000)] {
        let row = Row::several(
            format!("control.structure.rules-{name}"),
            Instrument::Control,
            format!(
                "`pcn apply` where a cube comes into a chain, and where it goes, beside {count} rules"
            ),
            move |scope| Ok(one_cube(scope, count)),
        );
        rows.push(if count > 1000 { row.long() } else { row });
    }
    rows
}

/// Milliseconds that a command takes; it must succeed.
pub fn timed(mut command: Command) -> f64 {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let start = Instant::now();
    let output = command
        .stderr(Stdio::piped())
        .output()
        .expect("it can be run");
    let took = milliseconds(start.elapsed());
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    took
}

/// The same in a namespace, from the words of a line.
fn timed_in(space: &Space, line: &str) -> f64 {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().expect("a command"));
    command.args(words);
    space.enter(|| timed(command))
}

fn effort(scope: &Scope<'_>, count: usize) -> Effort {
    if count >= MANY {
        scope.effort.with_rounds(FEW)
    } else {
        scope.effort
    }
}

/// An empty namespace for a peer's tables; it goes with the way.
fn apart() -> Path {
    Path::apart("peer")
}

fn no_op_rules(scope: &Scope<'_>, count: usize) -> Finding {
    let (ours, peer) = (Path::through_lab("a"), apart());
    let file = scope.lab.file(
        "rules.yaml",
        &text("plan", &spec(&ours, Hook::Tc, count, false)),
    );
    scope.lab.pcn(&format!("apply --yes -f {file}")).expect(0);
    let rules = scope.lab.file("rules.nft", &nft(count, false, false));
    peer.middle.run(&format!("nft -f {rules}")).expect(0);
    let goal = match count {
        10 => Some(2.0),
        1000 => Some(5.0),
        10_000 => Some(40.0),
        _ => None,
    };
    let contest = Contest::new(Unit::Milliseconds, "pcn plan", || {
        timed(scope.lab.command(&format!("plan -f {file}")))
    })
    .against(
        Other::Peer("nft list ruleset", &package("nftables")),
        None,
        || timed_in(&peer.middle, "nft list ruleset"),
    );
    let finding = with_goal(contest, goal).run(effort(scope, count));
    scope.lab.pcn("destroy --yes plan").expect(0);
    finding
}

fn no_op_routes(scope: &Scope<'_>, count: usize) -> Finding {
    let (ours, peer) = (Path::through_lab("a"), apart());
    let routes = prefixes(Family::V4, &networks(count));
    let spec = one(
        &ours,
        Hook::Tc,
        &router_with(Family::V4, "", "", &listed(Family::V4, &routes)),
    );
    let file = scope.lab.file("routes.yaml", &text("plan", &spec));
    scope.lab.pcn(&format!("apply --yes -f {file}")).expect(0);
    kernel_router(&peer, Family::V4, &routes);
    let finding = Contest::new(Unit::Milliseconds, "pcn plan", || {
        timed(scope.lab.command(&format!("plan -f {file}")))
    })
    .goal(Goal::Below(if count < MANY { 40.0 } else { 400.0 }))
    .against(
        Other::Peer("ip route list", &package("iproute2")),
        None,
        || timed_in(&peer.middle, "ip route list"),
    )
    .run(effort(scope, count));
    scope.lab.pcn("destroy --yes plan").expect(0);
    finding
}

fn with_goal<'a>(contest: Contest<'a>, below: Option<f64>) -> Contest<'a> {
    match below {
        Some(below) => contest.goal(Goal::Below(below)),
        None => contest,
    }
}

/// The spec of a filter on an interface, with so many networks.
fn filter(path: &Path, count: usize) -> String {
    let list: Vec<String> = networks(count)
        .iter()
        .map(|[a, b, c]| format!("{a}.{b}.{c}.0/24"))
        .collect();
    format!(
        "  interfaces: {{ {}: {{ through: [shield] }} }}\n  cubes: {{ shield: {{ ddosMitigator: {{ sources: [{}] }} }} }}\n",
        path.input(),
        list.join(",\n")
    )
}

fn no_op_prefixes(scope: &Scope<'_>, count: usize) -> Finding {
    let ours = Path::through_lab("a");
    let file = scope
        .lab
        .file("prefixes.yaml", &text("plan", &filter(&ours, count)));
    scope.lab.pcn(&format!("apply --yes -f {file}")).expect(0);
    let goal = match count {
        1000 => 5.0,
        10_000 => 40.0,
        _ => 400.0,
    };
    let finding = Contest::new(Unit::Milliseconds, "pcn plan", || {
        timed(scope.lab.command(&format!("plan -f {file}")))
    })
    .goal(Goal::Below(goal))
    .run(effort(scope, count));
    scope.lab.pcn("destroy --yes plan").expect(0);
    finding
}
