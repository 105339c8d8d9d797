//! How large programs are: instructions that the verifier visits, and how long it takes to load them.

use std::{fs, os::fd::AsFd};

use integration_tests::{examples, lab::Lab};
use reconciler::kernel::linux::bpf;

use super::{Findings, Row, Scope};
use crate::finding::{Finding, Goal, Instrument, Unit};

/// Loads of each.
const ROUNDS: usize = 3;
/// Instructions and milliseconds that are asked of the largest program.
const GOALS: [f64; 2] = [20_000.0, 50.0];

/// The rows.
pub fn rows() -> Vec<Row> {
    let row = |name: &'static str| {
        let job = format!(
            "the largest program of the example {name}: instructions the verifier visits, time to load it"
        );
        Row::several(
            format!("size.{name}"),
            Instrument::Control,
            job,
            move |scope| Ok(size(scope, name)),
        )
        .long()
    };
    examples::EACH_KIND.into_iter().map(row).collect()
}

fn size(scope: &Scope<'_>, name: &str) -> Findings {
    let file = examples::path(name);
    let (mut loads, mut largest) = (Vec::new(), (0, String::new()));
    for _ in 0..scope.effort.with_rounds(ROUNDS).rounds {
        loads.push(longest_load(scope.lab, &file));
        largest = largest_program(scope.lab);
        scope.lab.pcn(&format!("destroy --yes {name}")).expect(0);
    }
    let instructions = Finding::alone(
        Unit::Number,
        "visited instructions",
        vec![f64::from(largest.0)],
        Some(Goal::Below(GOALS[0])),
    );
    let time = Finding::alone(
        Unit::Milliseconds,
        "the longest load",
        loads,
        Some(Goal::Below(GOALS[1])),
    );
    vec![
        (".instructions", instructions.note(largest.1)),
        (
            ".load",
            time.note("under strace, beside loads of others at the same time"),
        ),
    ]
}

/// The program with most instructions visited, and where it is.
fn largest_program(lab: &Lab) -> (u32, String) {
    let ids = lab.ids();
    let programs = ids.keys().filter(|path| {
        let file = path.rsplit('/').next().unwrap_or_default();
        file.starts_with("program-")
    });
    programs
        .map(|path| {
            let program = bpf::open(&lab.pin(path)).expect("it is pinned");
            let visited = bpf::verified_instructions(program.as_fd()).expect("Linux 5.17");
            (visited, path.clone())
        })
        .max()
        .expect("there are programs")
}

/// Applies under strace, a file for each thread. Returns milliseconds of the longest load of a program.
fn longest_load(lab: &Lab, file: &str) -> f64 {
    let folder = lab.file("trace", "");
    fs::remove_file(&folder).expect("a file in a tmpfs");
    fs::create_dir(&folder).expect("a folder in a tmpfs");
    let line = format!("strace -ff -qq -T -e trace=bpf -o {folder}/bpf");
    lab.pcn_under(&line, &format!("apply --yes -f {file}"))
        .expect(0);
    let mut longest: f64 = 0.0;
    for entry in fs::read_dir(&folder).expect("strace wrote it") {
        let text = fs::read_to_string(entry.expect("a file").path()).expect("strace wrote it");
        let loads = text
            .lines()
            .filter(|line| line.starts_with("bpf(BPF_PROG_LOAD"));
        longest = loads.filter_map(seconds).fold(longest, f64::max);
    }
    fs::remove_dir_all(&folder).expect("a folder in a tmpfs");
    assert!(longest > 0.0, "programs are loaded");
    longest * 1e3
}

/// What strace says at the end of a line: `<0.001234>`.
fn seconds(line: &str) -> Option<f64> {
    line.strip_suffix('>')?.rsplit_once('<')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn strace_says_how_long() {
        let line = "bpf(BPF_PROG_LOAD, {prog_name=\"a<b\"}, 152) = 11 <0.003125>";
        assert_eq!(seconds(line), Some(0.003_125));
        assert_eq!(
            seconds("bpf(BPF_PROG_LOAD, {...}, 152 <unfinished ...>"),
            None
        );
    }
}
