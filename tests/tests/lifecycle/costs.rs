//! What programs and applies cost, as numbers that are the same at every run: a first sign that something has become
//! slower, where times are too noisy to tell. Another verifier and another JIT have other ones, so they are compared on the
//! kernel of [`LINUX`] alone. `UPDATE_GOLDEN=1` rewrites `costs.txt`; read the difference.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use integration_tests::{
    examples,
    lab::{Lab, run_test},
};
use reconciler::kernel::linux::bpf::{self, ProgramInfo};

/// Release and machine that the numbers are of.
const LINUX: (&str, &str) = ("6.18.", "x86_64");

/// A number may differ by this share of it, or by so many: compilers and small changes do that.
const SHARE: f64 = 0.1;
const FEW: f64 = 4.0;

/// `BPF_JMP | BPF_CALL`, `BPF_LD | BPF_IMM | BPF_DW`, `BPF_ALU | BPF_AND | BPF_K` (linux/bpf.h).
const CALL: u8 = 0x85;
const LOAD_WIDE: u8 = 0x18;
const MASK: u8 = 0x54;
/// `BPF_FUNC_tail_call`
const TAIL_CALL: i32 = 12;
/// `BPF_PSEUDO_MAP_FD`, in the upper half of a load's second byte.
const PSEUDO_MAP: u8 = 1;

type Costs = BTreeMap<String, f64>;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lifecycle/costs.txt")
}

/// The programs of cubes that are pinned: path and instructions as the verifier left them.
fn programs(lab: &Lab) -> Vec<(String, PathBuf)> {
    let ids = lab.ids();
    let of_cube = |path: &&String| {
        let file = path.rsplit('/').next().unwrap_or_default();
        file.starts_with("program-") && !path.contains("/interfaces/")
    };
    ids.keys()
        .filter(of_cube)
        .map(|path| (path.clone(), lab.pin(path)))
        .collect()
}

fn operand([_, _, _, _, imm @ ..]: [u8; 8]) -> i32 {
    i32::from_ne_bytes(imm)
}

fn program_costs(costs: &mut Costs, name: &str, path: &Path) {
    let program = bpf::open(path).expect("it is pinned");
    let info: ProgramInfo = bpf::info(program.as_fd()).expect("the kernel tells");
    let verified = bpf::verified_instructions(program.as_fd()).expect("Linux 5.17");
    let instructions = bpf::instructions_of(program.as_fd()).expect("root may read them");
    let count = |is: &dyn Fn(&[u8; 8]) -> bool| {
        instructions
            .iter()
            .filter(|instruction| is(instruction))
            .count() as f64
    };
    let jump = |it: &[u8; 8]| it[0] == CALL && it[1] >> 4 == 0 && operand(*it) == TAIL_CALL;
    let mut put = |what: &str, value: f64| costs.insert(format!("{name} {what}"), value);
    put("verified instructions", f64::from(verified));
    put("instructions", instructions.len() as f64);
    put("bytes of machine code", f64::from(info.jited_prog_len));
    put(
        "references to maps",
        count(&|it| it[0] == LOAD_WIDE && it[1] >> 4 == PSEUDO_MAP),
    );
    put("jumps", count(&jump));
    put(
        "helper calls",
        count(&|it| it[0] == CALL && it[1] >> 4 == 0 && !jump(it)),
    );
}

/// System calls of a command that say something to the kernel's networking.
fn calls(lab: &Lab, arguments: &str) -> f64 {
    let trace = lab.file("calls", "");
    lab.pcn_under(
        &format!("strace -f -qq -e trace=bpf,sendto,sendmsg -o {trace}"),
        arguments,
    )
    .expect(0);
    let text = fs::read_to_string(trace).expect("strace wrote it");
    let begun = |line: &&str| line.contains('(') && !line.contains("resumed>");
    text.lines().filter(begun).count() as f64
}

fn apply_costs(costs: &mut Costs, lab: &Lab, name: &str) {
    let file = lab.file("example.yaml", &examples::text(name));
    let mut put = |what: &str, value: f64| costs.insert(format!("{name} {what}"), value);
    put(
        "calls of the first apply",
        calls(lab, &format!("apply --yes -f {file}")),
    );
    put(
        "calls of a plan without changes",
        calls(lab, &format!("plan -f {file}")),
    );
}

#[test]
fn costs_are_what_they_were() {
    run_test(|lab| {
        let mut costs = Costs::new();
        for name in examples::EACH_KIND {
            apply_costs(&mut costs, lab, name);
            for (path, pin) in programs(lab) {
                program_costs(&mut costs, &path, &pin);
            }
            lab.pcn(&format!("destroy --yes {name}")).expect(0);
        }
        compare(&costs);
    });
}

fn compare(costs: &Costs) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("every Linux has one");
    if !release.starts_with(LINUX.0) || std::env::consts::ARCH != LINUX.1 {
        eprintln!("not compared: costs.txt is of Linux {LINUX:?}, and this is {release}");
        return;
    }
    let mut text = String::new();
    for (what, value) in costs {
        writeln!(text, "{value:>8} {what}").expect("text grows");
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(golden(), text).expect("the source tree can be written");
        return;
    }
    let expected: Costs = fs::read_to_string(golden())
        .expect("costs.txt is beside this file")
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .map(|(value, what)| (what.to_owned(), value.parse().expect("a number")))
        .collect();
    let mut problems = Vec::new();
    for (what, value) in costs {
        match expected.get(what) {
            None => problems.push(format!("{what}: {value}, and not in costs.txt")),
            Some(before) if (value - before).abs() > (before * SHARE).max(FEW) => {
                problems.push(format!("{what}: {value}, was {before}"));
            }
            Some(_) => {}
        }
    }
    let gone = expected.keys().filter(|what| !costs.contains_key(*what));
    problems.extend(gone.map(|what| format!("{what}: gone")));
    assert!(
        problems.is_empty(),
        "{problems:#?}\nUPDATE_GOLDEN=1 rewrites what is right"
    );
}

/// Where the verifier does not trust who made a program array, it masks the index before each jump, and no jump is a direct
/// one.
#[test]
fn jumps_are_direct() {
    run_test(|lab| {
        lab.apply(&examples::text("hello-transparent"));
        let mut jumps = 0;
        for (path, pin) in programs(lab) {
            let program = bpf::open(&pin).expect("it is pinned");
            let instructions = bpf::instructions_of(program.as_fd()).expect("root may read them");
            for pair in instructions.windows(2) {
                if pair[1][0] == CALL && operand(pair[1]) == TAIL_CALL {
                    jumps += 1;
                    assert_ne!(pair[0][0], MASK, "{path}: the index of a jump is masked");
                }
            }
        }
        assert!(jumps > 0);
    });
}
