//! What each cube costs by itself.

use integration_tests::{
    packet::problems,
    test_run::{Hook, Verdict},
};

use super::{
    Row, Scope,
    topology::{OUTSIDE, flow, one, routed, router, router_and},
    word,
};
use crate::{
    contest::{Contest, Other},
    finding::{Finding, Goal, Instrument, Unit},
    rig::{
        frames::Frames,
        meter::Meter,
        path::{Applied, Path, apply},
        traffic::Sender,
    },
};

/// A cube between two interfaces, and the packet it is asked to forward.
struct Case {
    name: &'static str,
    job: &'static str,
    spec: fn(&Path, Hook) -> String,
    frames: fn() -> Frames,
    check: fn(&Meter, &Frames),
}

const CASES: [Case; 4] = [
    Case {
        name: "hello",
        job: "hello: sends everything to its other port",
        spec: |path, hook| one(path, hook, "hello: {}"),
        frames: bridged,
        check: unchanged,
    },
    Case {
        name: "forwarder",
        job: "forwarder: sends what enters one port out of another",
        spec: |path, hook| {
            let actions = "{ a: { forward: b }, b: { forward: a } }";
            one(path, hook, &format!("forwarder: {{ actions: {actions} }}"))
        },
        frames: bridged,
        check: unchanged,
    },
    Case {
        name: "bridge",
        job: "bridge: both stations known",
        spec: |path, hook| one(path, hook, "bridge: {}"),
        frames: bridged,
        check: unchanged,
    },
    Case {
        name: "router",
        job: "router: one route, neighbour known",
        spec: |path, hook| one(path, hook, &router("", "")),
        frames: routed_frames,
        check: |meter, frames| meter.check(Verdict::Redirect, &routed(&frames.flows[0]).bytes()),
    },
];

/// A transparent cube on a router's port: what it adds to the router alone.
struct Added {
    name: &'static str,
    job: &'static str,
    inside: &'static str,
    outside: &'static str,
    cube: &'static str,
    /// Nanoseconds that it may add.
    goal: Option<f64>,
    check: fn(&Meter, &Frames),
}

const ADDED: [Added; 6] = [
    Added {
        name: "transparent",
        job: "helloTransparent: passes everything, beside the router alone",
        inside: "t",
        outside: "",
        cube: "t: { helloTransparent: {} }",
        goal: None,
        check: |meter, frames| meter.check(Verdict::Redirect, &routed(&frames.flows[0]).bytes()),
    },
    Added {
        name: "ddos",
        job: "ddosMitigator with one listed network, which is another, beside the router alone",
        inside: "t",
        outside: "",
        cube: "t: { ddosMitigator: { sources: [198.51.100.0/24] } }",
        goal: None,
        check: |meter, frames| meter.check(Verdict::Redirect, &routed(&frames.flows[0]).bytes()),
    },
    Added {
        name: "firewall-empty",
        job: "firewall without rules and without tracking, beside the router alone",
        inside: "t",
        outside: "",
        cube: "t: { firewall: { conntrack: false } }",
        goal: Some(3.0),
        check: |meter, frames| meter.check(Verdict::Redirect, &routed(&frames.flows[0]).bytes()),
    },
    Added {
        name: "firewall-rule",
        job: "firewall with one rule that accepts the packet, without tracking, beside the router alone",
        inside: "t",
        outside: "",
        cube: "t: { firewall: { conntrack: false, ingress: { default: drop, \
               rules: [{ source: 10.0.1.0/24, protocol: udp, action: accept }] } } }",
        goal: None,
        check: |meter, frames| meter.check(Verdict::Redirect, &routed(&frames.flows[0]).bytes()),
    },
    Added {
        name: "firewall-established",
        job: "firewall, packet of an established connection, beside the router alone",
        inside: "t",
        outside: "",
        cube: "t: { firewall: { egress: { default: drop } } }",
        goal: None,
        check: |meter, frames| meter.check(Verdict::Redirect, &routed(&frames.flows[0]).bytes()),
    },
    Added {
        name: "nat",
        job: "nat: packet of a session, outwards, beside the router alone",
        inside: "",
        outside: "t",
        cube: "t: { nat: { masquerade: true } }",
        goal: None,
        check: translated,
    },
];

/// The rows.
pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for case in &CASES {
        for hook in Hook::ALL {
            let id = format!("program.{}.{}", case.name, word(hook));
            rows.push(Row::new(id, Instrument::Program, case.job, move |scope| {
                Ok(alone(scope, case, hook))
            }));
        }
    }
    for added in &ADDED {
        for hook in Hook::ALL {
            let id = format!("program.{}.{}", added.name, word(hook));
            rows.push(Row::new(id, Instrument::Program, added.job, move |scope| {
                Ok(beside_router(scope, added, hook))
            }));
        }
    }
    rows
}

fn bridged() -> Frames {
    Frames::bridged(vec![flow()])
}

fn routed_frames() -> Frames {
    Frames::routed(vec![flow()])
}

fn unchanged(meter: &Meter, frames: &Frames) {
    meter.check(Verdict::Redirect, &frames.packet(&frames.flows[0]).bytes());
}

/// Insists on the external address, and on right checksums.
pub fn translated(meter: &Meter, _: &Frames) {
    let (verdict, frame) = meter.once();
    assert_eq!(verdict, Verdict::Redirect);
    assert_eq!(problems(&frame), [""; 0]);
    assert_eq!(frame[26..30], OUTSIDE, "the source is translated");
    assert_eq!(frame[22], 63, "it was routed");
}

/// Lets both directions of the flows be known, and what is learned be learned.
pub fn acquaint(path: &Path, frames: &Frames) {
    let count = frames.flows.len() as u32;
    let sender = Sender::new(&path.source, "eth0", frames);
    sender.send(count);
    path.answer(frames);
    sender.send(count);
}

/// A meter of what comes in at an interface.
pub fn meter(applied: &Applied<'_>, path: &Path, hook: Hook, frames: &Frames) -> Meter {
    use std::os::fd::AsFd;
    Meter::new(hook, frames, applied.entry(&path.input(), hook).as_fd())
}

fn alone(scope: &Scope<'_>, case: &Case, hook: Hook) -> Finding {
    let frames = (case.frames)();
    let path = Path::through_lab("a");
    let applied = apply(scope.lab, "alone", &(case.spec)(&path, hook));
    acquaint(&path, &frames);
    let ours = meter(&applied, &path, hook, &frames);
    (case.check)(&ours, &frames);
    let nothing = Meter::of_nothing(hook, &frames);
    let parsing = Meter::of_parsing(hook, &frames);
    Contest::new(Unit::Nanoseconds, "entry and cube", || ours.sample())
        .without(|| nothing.sample())
        .against(Other::Bound("headers and one array read"), None, || {
            parsing.sample()
        })
        .run(scope.effort)
}

fn beside_router(scope: &Scope<'_>, added: &Added, hook: Hook) -> Finding {
    let frames = routed_frames();
    let (with, without) = (Path::through_lab("a"), Path::through_lab("b"));
    let stacked = router(added.inside, added.outside);
    let spec = router_and(&with, hook, &stacked, added.cube);
    let applied = apply(scope.lab, "with", &spec);
    let plain = apply(scope.lab, "without", &one(&without, hook, &router("", "")));
    acquaint(&with, &frames);
    let ours = meter(&applied, &with, hook, &frames);
    (added.check)(&ours, &frames);
    let other = meter(&plain, &without, hook, &frames);
    let nothing = Meter::of_nothing(hook, &frames);
    Contest::new(Unit::Nanoseconds, "with the cube", || ours.sample())
        .without(|| nothing.sample())
        .against(
            Other::Own("router alone"),
            added.goal.map(Goal::MoreBy),
            || other.sample(),
        )
        .run(scope.effort)
}
