//! Dropping what listed sources send, beside others that do.

use std::fmt::Write as _;

use ebpf_abi::bench::{Bound, WORK_NONE};
use integration_tests::{command::run_with, test_run::Hook};
use topology_schema::MAX_BYTES;

use super::{Row, Scope, topology::REMOTE};
use crate::{
    contest::{Contest, Other},
    finding::{Finding, Goal, Instrument, Unit},
    machine::package,
    rig::{
        frames::{Flow, Frames, shuffled},
        path::{Path, Rate, apply},
        traffic::{attach, bound},
    },
};

/// Sources that are seen, at most.
const SEEN: usize = 1 << 16;

/// The rows.
pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, count) in [("1", 1), ("100k", 100_000), ("1m", 1_000_000)] {
        let id = format!("ddos.drop-{name}.xdp");
        let job = format!(
            "dropping SYN segments of {count} listed sources, on the interface they come in at"
        );
        let row = Row::new(id, Instrument::Path, job, move |scope| {
            // With its indentation and a comma.
            if count * "255.255.255.255/32,\n".len() > MAX_BYTES {
                return Err(format!(
                    "a file with {count} sources is larger than what pcn reads, {} MiB",
                    MAX_BYTES >> 20
                ));
            }
            Ok(drops(scope, count))
        });
        rows.push(if count > 1 { row.long() } else { row });
    }
    rows
}

/// A source: none of them is next to another.
fn source(number: usize) -> [u8; 4] {
    // An odd factor: all numbers below 2^24 come once.
    let [_, a, b, c] = ((number as u32).wrapping_mul(0x9e_3779) & 0xff_ffff).to_be_bytes();
    [30, a, b, c]
}

pub fn addresses(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| {
        let [a, b, c, d] = source(number);
        format!("{a}.{b}.{c}.{d}")
    })
}

pub fn frames(count: usize) -> Frames {
    let flow = |number| Flow::new(source(number), REMOTE);
    let mut flows = shuffled((0..count).map(flow).collect());
    flows.truncate(SEEN);
    Frames::routed(flows).opening()
}

fn drops(scope: &Scope<'_>, count: usize) -> Finding {
    let frames = frames(count);
    let ours = Path::through_lab("a");
    let input = ours.input();
    let list: Vec<String> = addresses(count)
        .map(|address| format!("{address}/32"))
        .collect();
    let spec = format!(
        "  interfaces: {{ {input}: {{ hook: xdp, through: [shield] }} }}\n  \
         cubes: {{ shield: {{ ddosMitigator: {{ sources: [{}] }} }} }}\n",
        list.join(",\n")
    );
    let _applied = apply(scope.lab, "shield", &spec);
    let (nft, ipset, bare) = (
        Path::apart("nft"),
        Path::apart("ipset"),
        Path::apart("bare"),
    );
    load_nft(&nft, count);
    load_ipset(&ipset, count);
    let nothing = Bound {
        ifindex: 0,
        work: WORK_NONE,
    };
    let program = bound(Hook::Xdp, nothing);
    let _link = attach(&bare.middle, &bare.input(), Hook::Xdp, program.program());
    let filter = (count == 1).then(|| XdpFilter::load(count));
    let [of_pcn, of_nft, of_ipset, of_bare] =
        [&ours, &nft, &ipset, &bare].map(|path| rate(path, &frames));
    let of_filter = filter.as_ref().map(|filter| rate(&filter.path, &frames));
    let (peer, least) = match count {
        1 => (None, 0.9),
        100_000 => (Some(Goal::AtLeast(4.0)), 0.7),
        _ => (Some(Goal::AtLeast(4.0)), 0.6),
    };
    let mut contest = Contest::new(Unit::MegaPackets, "pcn", || of_pcn.dropped())
        .against(
            Other::Peer("nft netdev ingress, one set", &package("nftables")),
            peer,
            || of_nft.dropped(),
        )
        .against(
            Other::Peer("iptables-legacy raw and ipset", &package("ipset")),
            peer,
            || of_ipset.dropped(),
        );
    if let Some(rate) = &of_filter {
        contest = contest.against(
            Other::Peer("xdp-filter", &package("xdp-tools")),
            Goal::AtLeast(1.1),
            || rate.dropped(),
        );
    }
    contest
        .against(
            Other::Bound("drop, nothing else"),
            Goal::AtLeast(least),
            || of_bare.dropped(),
        )
        .run(scope.effort)
}

/// Each source has been seen.
fn rate(path: &Path, frames: &Frames) -> Rate {
    let rate = path.rate(frames, Hook::Tc);
    rate.introduce(frames);
    rate
}

pub fn load_nft(path: &Path, count: usize) {
    let mut text = String::from("table netdev t {\nset s {\ntype ipv4_addr\nelements = {\n");
    for address in addresses(count) {
        let _ = writeln!(text, "{address},");
    }
    let _ = write!(
        text,
        "}}\n}}\nchain c {{\ntype filter hook ingress device \"{}\" priority 0\nip saddr @s drop\n}}\n}}\n",
        path.input()
    );
    path.middle.enter(|| run_with("nft -f -", &text)).expect(0);
}

pub fn load_ipset(path: &Path, count: usize) {
    let mut text = format!(
        "create s hash:ip hashsize 65536 maxelem {}\n",
        count.max(65_536)
    );
    for address in addresses(count) {
        let _ = writeln!(text, "add s {address}");
    }
    path.middle
        .enter(|| run_with("ipset restore", &text))
        .expect(0);
    path.middle
        .run("iptables-legacy -t raw -A PREROUTING -m set --match-set s src -j DROP")
        .expect(0);
}

/// The filter of xdp-tools, on a way of its own.
struct XdpFilter {
    path: Path,
}

impl XdpFilter {
    fn load(count: usize) -> Self {
        // It pins below the lab's own bpffs, and finds interfaces in the lab only.
        let path = Path::through_lab("filter");
        let run = |line: &str| path.middle.run(line).expect(0);
        run(&format!("xdp-filter load --mode native {}", path.input()));
        for address in addresses(count) {
            run(&format!("xdp-filter ip --mode src {address}"));
        }
        Self { path }
    }
}

impl Drop for XdpFilter {
    fn drop(&mut self) {
        // A machine that is thrown away anyway: what fails is shown by the look at what is left.
        let _gone = self.path.middle.run("xdp-filter unload --all");
    }
}
