//! What cubes cost behind one another.

use integration_tests::{
    command::run_with,
    test_run::{Hook, Verdict},
};

use super::{
    KERNEL, Row, Scope,
    bridge::redirecting,
    nat,
    program::{acquaint, meter, translated},
    topology::{REMOTE, SOURCE, Sides, flow, on, one, router, router_and, sides},
    word,
};
use crate::{
    contest::{Contest, Other},
    finding::{Finding, Goal, Instrument, Role, Unit},
    machine::first_line,
    rig::{
        frames::{Family, Frames, NEAR, RECEIVER, SENDER, by_port, mac},
        hosts::hello_chain,
        meter::Meter,
        path::{Path, apply},
    },
};

/// Lengths of chains.
const LENGTHS: [usize; 5] = [1, 2, 4, 8, LONGEST];
/// The longest of them.
pub const LONGEST: usize = 16;
/// Links between two cubes: with 16 or more of them, some have slots that are not constants.
const LINKS: usize = 20;
/// Sessions that pass the realistic chain at the same time.
const SESSIONS: usize = 256;

/// A chain with so many cubes.
type Spec = fn(&Path, Hook, usize) -> String;

/// The rows.
pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for hook in Hook::ALL {
        for length in LENGTHS {
            let id = format!("chain.transparent-{length}.{}", word(hook));
            let job = format!(
                "{length} transparent cubes that pass everything, then hello; beside one of them"
            );
            let row = Row::new(id, Instrument::Program, job, move |scope| {
                Ok(chain(scope, hook, length, transparent))
            });
            rows.push(if between(length) { row.long() } else { row });
        }
        for length in LENGTHS {
            let id = format!("chain.standard-{length}.{}", word(hook));
            let job =
                format!("{length} cubes hello, linked one behind the other; beside one of them");
            let row = Row::new(id, Instrument::Program, job, move |scope| {
                Ok(chain(scope, hook, length, standard))
            });
            rows.push(if between(length) { row.long() } else { row });
        }
        for (kind, what, spec) in [
            ("", "16 cubes hello", standard as Spec),
            (
                "transparent-",
                "16 transparent cubes and hello",
                transparent,
            ),
        ] {
            let id = format!("chain.path-{kind}{LONGEST}.{}", word(hook));
            let job = format!("frames of 64 bytes through {what}; beside one of them");
            rows.push(Row::new(id, Instrument::Path, job, move |scope| {
                Ok(path(scope, hook, spec))
            }));
        }
        let id = format!("chain.slots.{}", word(hook));
        let job = "a jump out of a port with a constant slot, beside one with a variable slot";
        rows.push(Row::new(id, Instrument::Program, job, move |scope| {
            Ok(slots(scope, hook))
        }));
        let id = format!("chain.realistic.{}", word(hook));
        let job = "bridge, router, firewall, NAT in one chain; beside each of them alone, together";
        rows.push(Row::new(id, Instrument::Program, job, move |scope| {
            Ok(realistic(scope, hook))
        }));
        let id = format!("chain.realistic-path.{}", word(hook));
        let job = format!(
            "packets of {SESSIONS} sessions through bridge, router, firewall and NAT; beside the kernel's own"
        );
        rows.push(Row::new(id, Instrument::Path, job, move |scope| {
            Ok(realistic_path(scope, hook))
        }));
    }
    rows
}

/// Neither the shortest nor the longest.
fn between(length: usize) -> bool {
    length > 1 && length < LONGEST
}

fn frames() -> Frames {
    Frames::bridged(vec![flow()])
}

/// `hello` behind so many cubes that let everything pass.
fn transparent(path: &Path, hook: Hook, length: usize) -> String {
    let names: Vec<String> = (0..length).map(|number| format!("t{number}")).collect();
    let cubes: String = names
        .iter()
        .map(|name| format!("    {name}: {{ helloTransparent: {{}} }}\n"))
        .collect();
    // A stack has eight at most.
    let (inner, outer) = names.split_at(length.min(8));
    let rest = format!(
        "  cubes:\n{cubes}    h: {{ hello: {{ ports: {{ a: {{ through: [{}] }}, b: {{ through: [{}] }} }} }} }}\n  \
         links: [[h:a, INPUT], [h:b, OUTPUT]]\n",
        inner.join(", "),
        outer.join(", ")
    );
    on(path, hook, &rest)
}

/// So many `hello` behind one another.
fn standard(path: &Path, hook: Hook, length: usize) -> String {
    let rest = hello_chain(length, "INPUT", "OUTPUT");
    on(path, hook, &rest)
}

fn unchanged(meter: &Meter) {
    let frames = frames();
    meter.check(Verdict::Redirect, &frames.packet(&frames.flows[0]).bytes());
}

fn chain(scope: &Scope<'_>, hook: Hook, length: usize, spec: Spec) -> Finding {
    let frames = frames();
    let (long, short) = (Path::through_lab("a"), Path::through_lab("b"));
    let chain = apply(scope.lab, "chain", &spec(&long, hook, length));
    let single = apply(scope.lab, "single", &spec(&short, hook, 1));
    let ours = meter(&chain, &long, hook, &frames);
    let other = meter(&single, &short, hook, &frames);
    unchanged(&ours);
    unchanged(&other);
    let nothing = Meter::of_nothing(hook, &frames);
    let goal = (length == LONGEST).then_some(Goal::AtMost(1.3));
    let counting = Meter::of_counting(hook, &frames);
    let jumping = Meter::of_jumping(hook, &frames);
    let name = format!("{length} in a row");
    let mut contest = Contest::new(Unit::Nanoseconds, &name, || ours.sample())
        .without(|| nothing.sample())
        .against(Other::Own("1 alone"), goal, || other.sample());
    if length == LONGEST {
        contest = contest
            .against(
                Other::Bound("their counters alone, in one program"),
                None,
                || counting.sample(),
            )
            .against(Other::Bound("their jumps alone"), None, || jumping.sample());
    }
    let mut finding = contest.run(scope.effort);
    let one = finding.arms.iter().find(|arm| arm.role == Role::Own);
    if length > 1
        && let Some(one) = one
    {
        let each = finding.difference(one).median / (length - 1) as f64;
        finding
            .notes
            .push(format!("{each:.2} ns for each further cube"));
    }
    finding
}

/// The same chain as a way from one network to another.
fn path(scope: &Scope<'_>, hook: Hook, spec: Spec) -> Finding {
    let frames = frames();
    let (long, short) = (Path::through_lab("a"), Path::through_lab("b"));
    let _chain = apply(scope.lab, "chain", &spec(&long, hook, LONGEST));
    let _single = apply(scope.lab, "single", &spec(&short, hook, 1));
    let rates = [&long, &short].map(|path| {
        let rate = path.rate(&frames, hook);
        rate.check(&frames.packet(&frames.flows[0]));
        rate
    });
    let [ours, other] = &rates;
    Contest::new(Unit::MegaPackets, "16 in a row", || ours.sample())
        .against(Other::Own("1 alone"), Goal::AtLeast(0.77), || {
            other.sample()
        })
        .run(scope.effort)
}

/// Two cubes with many links between them; packets take one of them.
fn linked(path: &Path, hook: Hook, link: usize) -> String {
    let links: String = (0..LINKS)
        .map(|number| format!("    - [f:p{number:02}, g:p{number:02}]\n"))
        .collect();
    let rest = format!(
        "  cubes:\n    f: {{ forwarder: {{ actions: {{ in: {{ forward: p{link:02} }} }} }} }}\n    \
         g: {{ forwarder: {{ actions: {{ p{link:02}: {{ forward: out }} }} }} }}\n  \
         links:\n    - [f:in, INPUT]\n    - [g:out, OUTPUT]\n{links}"
    );
    on(path, hook, &rest)
}

fn slots(scope: &Scope<'_>, hook: Hook) -> Finding {
    let frames = frames();
    let (first, second) = (Path::through_lab("a"), Path::through_lab("b"));
    let constant = apply(scope.lab, "constant", &linked(&first, hook, 0));
    let variable = apply(scope.lab, "variable", &linked(&second, hook, LINKS - 1));
    let ours = meter(&constant, &first, hook, &frames);
    let other = meter(&variable, &second, hook, &frames);
    unchanged(&ours);
    unchanged(&other);
    let nothing = Meter::of_nothing(hook, &frames);
    Contest::new(Unit::Nanoseconds, "constant slot", || ours.sample())
        .without(|| nothing.sample())
        .against(Other::Own("variable slot"), None, || other.sample())
        .run(scope.effort)
}

const FIREWALL: &str = "fw: { firewall: { ingress: { default: drop } } }";
const NAT: &str = "nat: { nat: { masquerade: true } }";

/// A bridge, behind it a router, on whose outer port are a firewall and address translation.
fn whole(path: &Path, hook: Hook) -> String {
    let rest = format!(
        "  cubes:\n    br: {{ bridge: {{}} }}\n    c: {{ {} }}\n    {FIREWALL}\n    {NAT}\n  \
         links: [[br:a, INPUT], [br:b, c:a], [c:b, OUTPUT]]\n",
        router("", "fw, nat")
    );
    on(path, hook, &rest)
}

fn realistic(scope: &Scope<'_>, hook: Hook) -> Finding {
    let frames = Frames::routed(vec![flow()]);
    let tags = ["a", "b", "c", "d", "e"].map(Path::through_lab);
    let [all, bridge, plain, fw, nat] = &tags;
    let applied = [
        apply(scope.lab, "all", &whole(all, hook)),
        apply(scope.lab, "bridge", &one(bridge, hook, "bridge: {}")),
        apply(scope.lab, "router", &one(plain, hook, &router("", ""))),
        apply(
            scope.lab,
            "firewall",
            &router_and(fw, hook, &router("", "fw"), FIREWALL),
        ),
        apply(
            scope.lab,
            "nat",
            &router_and(nat, hook, &router("", "nat"), NAT),
        ),
    ];
    let switched = Frames::bridged(vec![flow()]);
    let meters: Vec<Meter> = applied
        .iter()
        .zip(&tags)
        .map(|(applied, path)| {
            let frames = if path.input() == bridge.input() {
                &switched
            } else {
                &frames
            };
            acquaint(path, frames);
            meter(applied, path, hook, frames)
        })
        .collect();
    let [whole, bridge, plain, fw, nat] = &meters[..] else {
        unreachable!("as many meters as topologies");
    };
    translated(whole, &frames);
    translated(nat, &frames);
    let nothing = Meter::of_nothing(hook, &frames);
    // What a cube on a port costs is what it adds to the router. Bridge and router have an entry program each.
    let sum = || bridge.sample() + fw.sample() + nat.sample() - plain.sample() - nothing.sample();
    Contest::new(Unit::Nanoseconds, "one chain", || whole.sample())
        .without(|| nothing.sample())
        .against(
            Other::Own("the four alone, together"),
            Goal::AtMost(0.7),
            sum,
        )
        .run(scope.effort)
}

/// The kernel's own bridge, filter, masquerading and forwarding in the middle of a way: what [`whole`] does.
fn kernel_chain() -> Path {
    let path = Path::apart("linux");
    let (input, output) = (path.input(), path.output());
    path.set("net.bridge.bridge-nf-call-iptables", "0");
    path.set("net.ipv4.ip_forward", "1");
    path.set("net.ipv4.conf.all.rp_filter", "0");
    let Sides { near, far, behind } = sides(Family::V4);
    path.ip(&format!(
        "link add br0 address {} type bridge mcast_snooping 0\nlink set {input} master br0\nlink set br0 up\n\
         address add {} dev br0\naddress add {} dev {output}\n\
         neighbor replace {} lladdr {} dev br0 nud permanent\n\
         neighbor replace {} lladdr {} dev {output} nud permanent\n\
         route add {behind} via {}\n",
        mac(NEAR),
        near[0],
        far[0],
        near[1],
        mac(SENDER),
        far[1],
        mac(RECEIVER),
        far[1],
    ));
    let rules = format!(
        "table inet t {{\nchain f {{ type filter hook forward priority 0; policy drop;\n\
         ct state established,related accept\niifname \"br0\" accept\n}}\n}}\n\
         table ip n {{\nchain p {{ type nat hook postrouting priority 100;\noifname \"{output}\" masquerade\n}}\n}}\n"
    );
    path.middle.enter(|| run_with("nft -f -", &rules)).expect(0);
    path
}

/// The same chain as a way, beside the kernel's.
fn realistic_path(scope: &Scope<'_>, hook: Hook) -> Finding {
    let frames = Frames::routed(by_port(SESSIONS, SOURCE, REMOTE));
    let (ours, bare) = (Path::through_lab("a"), Path::apart("bare"));
    let _applied = apply(scope.lab, "all", &whole(&ours, hook));
    let linux = kernel_chain();
    let _redirect = redirecting(&bare, hook);
    for path in [&ours, &linux] {
        nat::answered(path, &frames);
    }
    let of_pcn = nat::ready(&ours, &frames, hook);
    let of_linux = nat::ready(&linux, &frames, Hook::Tc);
    let of_redirect = bare.rate(&frames, hook);
    let goal = (hook == Hook::Xdp).then_some(Goal::AtLeast(4.0));
    Contest::new(Unit::MegaPackets, "pcn", || of_pcn.sample())
        .against(
            Other::Peer(
                "Linux bridge, nft filter and masquerade, ip forwarding",
                &first_line(KERNEL),
            ),
            goal,
            || of_linux.sample(),
        )
        .against(Other::Bound("redirect, nothing else"), None, || {
            of_redirect.sample()
        })
        .run(scope.effort)
}
