//! Packets through address translation, beside the kernel's.

use integration_tests::{command::run_with, packet::problems, test_run::Hook};

use super::{
    Row, Scope,
    bridge::redirecting,
    router::kernel_router,
    topology::{OUTSIDE, REMOTE, SOURCE, router, router_and},
    word,
};
use crate::{
    contest::{Contest, Other},
    finding::{Finding, Goal, Instrument, Unit},
    machine::package,
    rig::{
        frames::{Family, Frames, by_port},
        path::{Path, Rate, apply},
        traffic::Sender,
    },
};

/// Sessions that are there at the same time.
const ESTABLISHED: usize = 256;
/// Sessions that are begun in one sample: fewer than an address has ports.
const NEW: usize = 30_000;

/// The rows.
pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for hook in [Hook::Xdp, Hook::Tc] {
        let id = format!("nat.established.{}", word(hook));
        let job = format!("packets of {ESTABLISHED} sessions, masqueraded");
        rows.push(Row::new(id, Instrument::Path, job, move |scope| {
            Ok(established(scope, hook))
        }));
        let id = format!("nat.new.{}", word(hook));
        let job = format!("packets that each begin a session, {NEW} in a row, masqueraded");
        rows.push(Row::new(id, Instrument::Path, job, move |scope| {
            Ok(new_sessions(scope, hook))
        }));
    }
    rows
}

const CUBE: &str = "nat: { nat: { masquerade: true } }";

fn spec(path: &Path, hook: Hook) -> String {
    router_and(path, hook, &router("", "nat"), CUBE)
}

fn nft(path: &Path) {
    let text = format!(
        "table ip t {{\nchain c {{\ntype nat hook postrouting priority 100\noifname \"{}\" masquerade\n}}\n}}\n",
        path.output()
    );
    path.middle.enter(|| run_with("nft -f -", &text)).expect(0);
}

fn iptables(path: &Path) {
    let line = format!(
        "iptables-legacy -t nat -A POSTROUTING -o {} -j MASQUERADE",
        path.output()
    );
    path.middle.run(&line).expect(0);
}

fn translating(tag: &str, load: fn(&Path)) -> Path {
    let path = Path::apart(tag);
    kernel_router(&path, Family::V4, &["20.0.0.0/24".to_owned()]);
    load(&path);
    path
}

/// Insists on the external address, on a right checksum and on a router's work.
pub fn ready(path: &Path, frames: &Frames, sink: Hook) -> Rate {
    let rate = path.rate(frames, sink);
    rate.check_by(|frame| {
        assert_eq!(problems(frame), [""; 0]);
        assert_eq!(frame[26..30], OUTSIDE, "the source is translated");
        assert_eq!(frame[22], 63, "it was routed");
    });
    rate
}

/// Lets sessions begin and be answered: at the external address, and at the ports they had, which both keep where they can.
pub fn answered(path: &Path, frames: &Frames) {
    let mut outside = frames.clone();
    for flow in &mut outside.flows {
        flow.source = OUTSIDE;
    }
    let count = frames.flows.len() as u32;
    let sender = Sender::new(&path.source, "eth0", frames);
    sender.send(count);
    path.answer(&outside);
    sender.send(count);
}

fn established(scope: &Scope<'_>, hook: Hook) -> Finding {
    let frames = Frames::routed(by_port(ESTABLISHED, SOURCE, REMOTE));
    let (ours, bare) = (Path::through_lab("a"), Path::apart("bare"));
    let _applied = apply(scope.lab, "nat", &spec(&ours, hook));
    let _redirect = redirecting(&bare, hook);
    let peers = [translating("nft", nft), translating("ipt", iptables)];
    for path in peers.iter().chain([&ours]) {
        answered(path, &frames);
    }
    let rates = [&peers[0], &peers[1]].map(|path| ready(path, &frames, Hook::Tc));
    let [of_nft, of_iptables] = &rates;
    let of_pcn = ready(&ours, &frames, hook);
    let of_redirect = bare.rate(&frames, hook);
    let goal = (hook == Hook::Xdp).then_some(Goal::AtLeast(4.0));
    Contest::new(Unit::MegaPackets, "pcn", || of_pcn.sample())
        .against(
            Other::Peer("nft masquerade", &package("nftables")),
            goal,
            || of_nft.sample(),
        )
        .against(
            Other::Peer("iptables-legacy MASQUERADE", &package("iptables")),
            goal,
            || of_iptables.sample(),
        )
        .against(Other::Bound("redirect, nothing else"), None, || {
            of_redirect.sample()
        })
        .run(scope.effort)
}

fn new_sessions(scope: &Scope<'_>, hook: Hook) -> Finding {
    let frames = Frames::routed(by_port(NEW, SOURCE, REMOTE));
    let ours = Path::through_lab("a");
    let _applied = apply(scope.lab, "new", &spec(&ours, hook));
    let peers = [translating("nft", nft), translating("ipt", iptables)];
    let rates = [&peers[0], &peers[1]].map(|path| ready(path, &frames, Hook::Tc));
    let [of_nft, of_iptables] = &rates;
    let of_pcn = ready(&ours, &frames, hook);
    Contest::new(Unit::MegaPackets, "pcn", || {
        scope.lab.pcn("flush new nat/sessions").expect(0);
        of_pcn.send(NEW as u32)
    })
    .note("before each sample all sessions are flushed")
    .against(
        Other::Peer("nft masquerade", &package("nftables")),
        Goal::AtLeast(2.0),
        || {
            peers[0].forget_connections();
            of_nft.send(NEW as u32)
        },
    )
    .against(
        Other::Peer("iptables-legacy MASQUERADE", &package("iptables")),
        None,
        || {
            peers[1].forget_connections();
            of_iptables.send(NEW as u32)
        },
    )
    .run(scope.effort)
}
