//! One change of data: from the moment somebody asks for it until the first packet that feels it.

use std::{
    cell::Cell,
    fs,
    process::{Child, Command, Stdio},
    time::Instant,
};

use integration_tests::{lab::Space, test_run::Hook};

use super::super::{
    Findings, Scope,
    firewall::{iptables, nft, spec},
    router::{kernel_router, listed, networks, prefixes},
    topology::{SOURCE, one, router_with, sides},
};
use crate::{
    contest::{Contest, Effort, Other},
    finding::{Goal, Unit},
    machine::{milliseconds, package},
    rig::{
        frames::{Family, Flow},
        path::{Path, text},
        probe::Probe,
        watch::Watch,
    },
};

/// Changes of one sample. The longest of so many is as often above the 99th percentile of all as below it.
const CHANGES: usize = 70;
/// The same for a first look.
const CHANGES_QUICK: usize = 10;
/// Rounds; each of them is [`CHANGES`] changes of each contestant, those of `pcn` twice.
const ROUNDS: usize = 3;
/// Rounds with many elements.
const ROUNDS_MANY: usize = 2;
/// From here on there are many.
const MANY: usize = 1000;
/// Milliseconds that are asked of the median and of the 99th percentile.
const GOALS: [f64; 2] = [1.0, 5.0];
/// Where packets go that the change lets pass.
const TARGET: [u8; 4] = [20, 200, 0, 1];

/// Makes changes, back and forth, and says how long they took to be felt: the median in milliseconds; the longest is left in
/// `longest`. `begin` begins one, after which packets pass or do not; `settle` waits until nothing of it goes on.
fn felt<T>(
    changes: usize,
    probe: &Probe,
    longest: &Cell<f64>,
    mut begin: impl FnMut(bool) -> T,
    mut settle: impl FnMut(T),
) -> f64 {
    let mut took: Vec<f64> = (0..changes)
        .map(|turn| {
            let passes = turn % 2 == 0;
            let start = Instant::now();
            let begun = begin(passes);
            let felt = probe.until(passes);
            settle(begun);
            milliseconds(felt.saturating_duration_since(start))
        })
        .collect();
    took.sort_by(f64::total_cmp);
    longest.set(took[took.len() - 1]);
    crate::statistics::median(&took)
}

/// A file that `pcn watch` follows, in two versions.
struct Followed<'a> {
    scope: &'a Scope<'a>,
    path: String,
    versions: [String; 2],
    watch: Watch<'a>,
    applied: usize,
}

impl<'a> Followed<'a> {
    /// With the first version, in which packets do not pass.
    fn start(scope: &'a Scope<'a>, versions: &[String; 2]) -> Self {
        let path = scope.lab.file("followed.yaml", &versions[0]);
        let names = ["blocks.yaml", "passes.yaml"];
        let versions = [0, 1].map(|which| scope.lab.file(names[which], &versions[which]));
        let watch = Watch::start(scope.lab, &format!("-f {path}"));
        let mut followed = Self {
            scope,
            path,
            versions,
            watch,
            applied: 0,
        };
        followed.settle();
        followed
    }

    /// Waits for the end of the round.
    fn settle(&mut self) {
        self.applied += 1;
        self.watch.wait_for(self.applied);
    }

    fn felt(&mut self, changes: usize, probe: &Probe, longest: &Cell<f64>) -> f64 {
        let (versions, path) = (self.versions.clone(), self.path.clone());
        let exchange = |passes: bool| {
            let next = format!("{path}.next");
            // A link and not a copy: what is written before is no part of the change.
            fs::hard_link(&versions[usize::from(passes)], &next).expect("a file in a tmpfs");
            fs::rename(&next, &path).expect("a file in a tmpfs");
        };
        felt(changes, probe, longest, exchange, |()| self.settle())
    }

    fn end(self) {
        self.watch.stop();
        self.scope.lab.pcn("destroy --yes plan").expect(0);
    }
}

/// A peer: a way through a namespace with the kernel's tables, and two commands.
struct Commands {
    path: Path,
    probe: Probe,
    lines: [String; 2],
}

impl Commands {
    /// `lines`: what makes packets not pass, and what makes them pass.
    fn new(path: Path, flow: Flow, lines: [&str; 2]) -> Self {
        let probe = Probe::new(&path, flow);
        probe.until(false);
        Self {
            path,
            probe,
            lines: lines.map(str::to_owned),
        }
    }

    fn felt(&self, changes: usize, longest: &Cell<f64>) -> f64 {
        let begin = |passes: bool| begin(&self.path.middle, &self.lines[usize::from(passes)]);
        felt(changes, &self.probe, longest, begin, |mut child: Child| {
            let status = child.wait().expect("a child can be waited for");
            assert!(status.success(), "{:?}: {status}", self.lines);
        })
    }
}

/// Starts a command in a namespace.
fn begin(space: &Space, line: &str) -> Child {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().expect("a command"));
    command.args(words).stdin(Stdio::null());
    space
        .enter(|| command.spawn())
        .unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// How much is done for so many elements: rounds, and changes of each.
fn effort(scope: &Scope<'_>, count: usize) -> (Effort, usize) {
    let quick = scope.effort.rounds <= Effort::QUICK.rounds;
    let rounds = if quick {
        1
    } else if count > MANY {
        ROUNDS_MANY
    } else {
        ROUNDS
    };
    let effort = Effort {
        warm_up: 0,
        ..scope.effort.with_rounds(rounds)
    };
    (effort, if quick { CHANGES_QUICK } else { CHANGES })
}

/// `pcn` beside the others.
fn compare(
    scope: &Scope<'_>,
    count: usize,
    versions: &[String; 2],
    ours: &Path,
    flow: Flow,
    peers: &[(&str, &str, Commands)],
) -> Findings {
    let (effort, changes) = effort(scope, count);
    let mut followed = Followed::start(scope, versions);
    let probe = Probe::new(ours, flow);
    probe.until(false);
    let longest = Cell::new(0.0);
    let mut contest = Contest::new(Unit::Milliseconds, "pcn watch", || {
        followed.felt(changes, &probe, &longest)
    })
    .beside(&longest)
    .goal(Goal::Below(GOALS[0]))
    .note(format!(
        "{changes} changes in each round; the 99th percentile is the longest of them"
    ));
    for (name, package_name, commands) in peers {
        let longest = &longest;
        contest = contest.against(Other::Peer(name, &package(package_name)), None, move || {
            commands.felt(changes, longest)
        });
    }
    let (half, mut late) = contest.run_both(effort);
    followed.end();
    late.goal = Some(Goal::Below(GOALS[1]));
    vec![(".p50", half), (".p99", late)]
}

/// One rule of a firewall becomes another one.
pub(super) fn one_rule(scope: &Scope<'_>, count: usize) -> Findings {
    let ours = Path::through_lab("a");
    let blocks = text("plan", &spec(&ours, Hook::Tc, count, false));
    // In the middle of the list. Rules count from one in their destinations.
    let number = count / 2;
    let old = format!("'20.0.{}.{}/32'", number >> 8, number & 255);
    let [a, b, c, d] = TARGET;
    let passes = blocks.replace(&old, &format!("'{a}.{b}.{c}.{d}/32'"));
    // Not both texts in the message: they are long.
    assert!(blocks != passes, "there is a rule for {old}");
    let port = 5000 + ((number - 1) % 7) as u16;
    let flow = Flow {
        source: SOURCE,
        destination: TARGET,
        ports: [10_000, port],
    };
    let way = |tag: &str, rules: &str, command: &str| {
        let path = Path::apart(tag);
        kernel_router(&path, Family::V4, &[sides(Family::V4).behind.to_owned()]);
        let rules = scope.lab.file(tag, rules);
        path.middle.run(&format!("{command} {rules}")).expect(0);
        path
    };
    let set = way("set", &nft(count, false, true), "nft -f");
    let linear = way("linear", &nft(count, false, false), "nft -f");
    for line in ["nft add chain inet t x", "nft add rule inet t c jump x"] {
        linear.middle.run(line).expect(0);
    }
    let legacy = way("legacy", &iptables(count, false), "iptables-legacy-restore");
    let element = format!("element inet t m {{ {a}.{b}.{c}.{d} . {port} : accept }}");
    let rule = format!("FORWARD -d {a}.{b}.{c}.{d}/32 -p udp --dport {port} -j ACCEPT");
    let added = format!("nft add rule inet t x ip daddr {a}.{b}.{c}.{d} udp dport {port} accept");
    let commands = |path, lines: [String; 2]| {
        let lines = [lines[0].as_str(), lines[1].as_str()];
        Commands::new(path, flow, lines)
    };
    let peers = [
        (
            "nft add and delete element",
            "nftables",
            commands(
                set,
                ["delete", "add"].map(|verb| format!("nft {verb} {element}")),
            ),
        ),
        (
            "nft add rule and flush its chain",
            "nftables",
            commands(linear, ["nft flush chain inet t x".to_owned(), added]),
        ),
        (
            "iptables-legacy -A and -D",
            "iptables",
            commands(
                legacy,
                ["-D", "-A"].map(|verb| format!("iptables-legacy {verb} {rule}")),
            ),
        ),
    ];
    compare(scope, count, &[blocks, passes], &ours, flow, &peers)
}

/// One route of a router comes or goes.
pub(super) fn one_route(scope: &Scope<'_>, count: usize) -> Findings {
    let (ours, linux) = (Path::through_lab("a"), Path::apart("linux"));
    // None of them is that of the target's.
    let mut routes = prefixes(Family::V4, &networks(count));
    let route = format!("{}.{}.{}.0/24", 102, TARGET[1], TARGET[2]);
    let flow = Flow::new(SOURCE, [102, TARGET[1], TARGET[2], TARGET[3]]);
    kernel_router(&linux, Family::V4, &routes);
    let version = |routes: &[String]| {
        let router = router_with(Family::V4, "", "", &listed(Family::V4, routes));
        text("plan", &one(&ours, Hook::Tc, &router))
    };
    let blocks = version(&routes);
    routes.push(route.clone());
    let passes = version(&routes);
    let [_, next_hop] = sides(Family::V4).far;
    let lines = ["del", "add"].map(|verb| format!("ip route {verb} {route} via {next_hop}"));
    let commands = Commands::new(linux, flow, [&lines[0], &lines[1]]);
    let peers = [("ip route add and del", "iproute2", commands)];
    compare(scope, count, &[blocks, passes], &ours, flow, &peers)
}
