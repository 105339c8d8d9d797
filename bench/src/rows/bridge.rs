//! Frames through a bridge, beside the kernel's own.

use ebpf_abi::bench::{Bound, WORK_NONE};
use integration_tests::test_run::Hook;

use super::{
    KERNEL, Row, Scope,
    topology::{flow, one},
    word,
};
use crate::{
    contest::{Contest, Other},
    finding::{Finding, Goal, Instrument, Unit},
    machine::first_line,
    rig::{
        frames::Frames,
        path::{Path, Rate, apply},
        traffic::{attach, bound, ifindex},
    },
};

/// The rows.
pub fn rows() -> Vec<Row> {
    let row = |hook: Hook| {
        let id = format!("bridge.path.{}", word(hook));
        let job = "frames of 64 bytes through a bridge, both stations known";
        Row::new(id, Instrument::Path, job, move |scope| {
            Ok(path(scope, hook))
        })
    };
    vec![row(Hook::Xdp), row(Hook::Tc)]
}

/// What is asked on a hook: of the peer and of the bound.
fn goals(hook: Hook) -> [Goal; 2] {
    match hook {
        Hook::Xdp => [Goal::AtLeast(2.5), Goal::AtLeast(0.85)],
        Hook::Tc => [Goal::AtLeast(1.15), Goal::AtLeast(0.93)],
    }
}

fn path(scope: &Scope<'_>, hook: Hook) -> Finding {
    let frames = Frames::bridged(vec![flow()]);
    let (ours, linux, bare) = (
        Path::through_lab("a"),
        Path::apart("linux"),
        Path::apart("bare"),
    );
    let _applied = apply(scope.lab, "switch", &one(&ours, hook, "bridge: {}"));
    kernel_bridge(&linux);
    let redirect = redirecting(&bare, hook);
    let rates = [
        ready(&ours, &frames, hook),
        ready(&linux, &frames, Hook::Tc),
        ready(&bare, &frames, hook),
    ];
    let [of_pcn, of_linux, of_redirect] = &rates;
    let [peer, least] = goals(hook);
    let finding = Contest::new(Unit::MegaPackets, "pcn", || of_pcn.sample())
        .against(
            Other::Peer("Linux bridge", &first_line(KERNEL)),
            peer,
            || of_linux.sample(),
        )
        .against(Other::Bound("redirect, nothing else"), least, || {
            of_redirect.sample()
        })
        .run(scope.effort);
    drop(redirect);
    finding
}

/// Makes a bridge of the kernel's in the middle of a way.
pub fn kernel_bridge(path: &Path) {
    // What a bridge would ask of netfilter, if anybody did.
    path.set("net.bridge.bridge-nf-call-iptables", "0");
    path.set("net.bridge.bridge-nf-call-ip6tables", "0");
    path.set("net.bridge.bridge-nf-call-arptables", "0");
    path.ip(&format!(
        "link add br0 type bridge mcast_snooping 0\nlink set {} master br0\nlink set {} master br0\nlink set br0 up\n",
        path.input(),
        path.output()
    ));
}

/// Lets everything that comes into the middle of a way leave it at the other side.
pub fn redirecting(path: &Path, hook: Hook) -> impl Sized {
    let settings = Bound {
        ifindex: ifindex(&path.middle, &path.output()),
        work: WORK_NONE,
    };
    let program = bound(hook, settings);
    let link = attach(&path.middle, &path.input(), hook, program.program());
    (program, link)
}

/// Lets both sides be learned, and insists that a frame arrives as it was sent.
fn ready(path: &Path, frames: &Frames, sink: Hook) -> Rate {
    path.answer(frames);
    let rate = path.rate(frames, sink);
    rate.check(&frames.packet(&frames.flows[0]));
    rate
}
