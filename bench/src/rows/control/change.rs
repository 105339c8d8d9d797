//! Applies that change one thing.

use std::cell::Cell;

use integration_tests::test_run::Hook;

use super::{Findings, Scope, apart, effort, timed, timed_in};
use crate::{
    contest::{Contest, Other},
    finding::{Finding, Goal, Unit},
    machine::package,
    rig::path::{Path, text},
    rows::firewall::{iptables, nft, spec},
};

/// Applies two files in turn, and says how long it took.
fn in_turn(scope: &Scope<'_>, files: &[String; 2], turn: &Cell<usize>) -> f64 {
    turn.set(turn.get() + 1);
    let file = &files[turn.get() % 2];
    timed(scope.lab.command(&format!("apply --yes -f {file}")))
}

pub(super) fn one_rule(scope: &Scope<'_>, count: usize) -> Finding {
    let (ours, peer) = (Path::through_lab("a"), apart());
    let before = text("plan", &spec(&ours, Hook::Tc, count, false));
    let middle = format!("'20.0.{}.{}/32'", (count / 2) >> 8, (count / 2) & 255);
    let after = before.replace(&middle, "'21.0.0.1/32'");
    // Not both texts in the message: they are long.
    assert!(before != after, "there is a rule for {middle}");
    let files = [
        scope.lab.file("before.yaml", &before),
        scope.lab.file("after.yaml", &after),
    ];
    scope
        .lab
        .pcn(&format!("apply --yes -f {}", files[0]))
        .expect(0);
    let rules = scope.lab.file("rules.nft", &nft(count, false, true));
    peer.middle.run(&format!("nft -f {rules}")).expect(0);
    let restore = scope.lab.file("rules.iptables", &iptables(count, false));
    peer.middle
        .run(&format!("iptables-legacy-restore {restore}"))
        .expect(0);
    let (turn, there, known) = (Cell::new(0), Cell::new(false), Cell::new(false));
    let flip = |cell: &Cell<bool>, [one, other]: [&str; 2]| {
        let line = if cell.get() { other } else { one };
        cell.set(!cell.get());
        timed_in(&peer.middle, line)
    };
    let finding = Contest::new(Unit::Milliseconds, "pcn apply", || {
        in_turn(scope, &files, &turn)
    })
    .goal(Goal::Below(20.0))
    .against(
        Other::Peer("nft add and delete element", &package("nftables")),
        None,
        || {
            flip(
                &there,
                [
                    "nft add element inet t m { 21.0.0.1 . 5000 : accept }",
                    "nft delete element inet t m { 21.0.0.1 . 5000 : accept }",
                ],
            )
        },
    )
    .against(
        Other::Peer("iptables-legacy -A and -D", &package("iptables")),
        None,
        || {
            flip(
                &known,
                [
                    "iptables-legacy -A FORWARD -d 21.0.0.1/32 -p udp --dport 5000 -j ACCEPT",
                    "iptables-legacy -D FORWARD -d 21.0.0.1/32 -p udp --dport 5000 -j ACCEPT",
                ],
            )
        },
    )
    .run(effort(scope, count));
    scope.lab.pcn("destroy --yes plan").expect(0);
    finding
}

/// A cube that comes is not what a cube that goes is, so each of them is a finding.
pub(super) fn one_cube(scope: &Scope<'_>, count: usize) -> Findings {
    let ours = Path::through_lab("a");
    let without = text("plan", &spec(&ours, Hook::Tc, count, false));
    let with = without
        .replace("through: [fw]", "through: [fw, t]")
        .replace("  cubes: { ", "  cubes: { t: { helloTransparent: {} }, ");
    let without = scope.lab.file("without.yaml", &without);
    let with = scope.lab.file("with.yaml", &with);
    let apply = |file: &str| timed(scope.lab.command(&format!("apply --yes -f {file}")));
    apply(&without);
    let goes = Cell::new(0.0);
    let (came, mut went) = Contest::new(Unit::Milliseconds, "pcn apply", || {
        let came = apply(&with);
        goes.set(apply(&without));
        came
    })
    .beside(&goes)
    .goal(Goal::Below(40.0))
    .run_both(effort(scope, count));
    scope.lab.pcn("destroy --yes plan").expect(0);
    // What is asked is asked of a new cube.
    went.goal = None;
    vec![(".comes", came), (".goes", went)]
}
