//! The binary itself: exit codes, streams and outputs that need no privilege.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/golden.rs"]
mod golden;

use std::{
    fs,
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use reconciler::{cli::ExitCode, kernel::linux::lock::Lock};
use serde_json::Value;

const VALID: &str = "\
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: NAME }
spec:
  namespaces:
    h1: { interfaces: { eth0: { addresses: [10.0.0.1/24] } } }
  interfaces:
    eth1: { hook: xdp, through: [shield] }
  cubes:
    br1: { bridge: { ports: { p1: { through: [shield] } } } }
    shield: { ddosMitigator: { sources: [198.51.100.0/24] } }
  links:
    - [br1:p1, h1/eth0]
    - [eth1, br1:p2]
";

/// `pcn` with a clean environment.
fn pcn() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pcn"));
    let ours = std::env::vars_os()
        .map(|(name, _)| name)
        .filter(|name| name.to_string_lossy().starts_with("PCN_"));
    for name in ours {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    pcn().args(arguments).output().unwrap()
}

fn run_with_stdin(arguments: &[&str], text: &str) -> Output {
    let mut child = pcn()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn ends_with(output: &Output, code: ExitCode) {
    assert_eq!(
        output.status.code(),
        Some(code.number().into()),
        "{}{}",
        stdout(output),
        stderr(output)
    );
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn topology(name: &str) -> String {
    VALID.replace("NAME", name)
}

fn golden_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cli")
        .join(name)
}

#[track_caller]
fn is_golden(name: &str, text: &str) {
    golden::all(std::iter::once(golden::compare(&golden_path(name), text)));
}

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pcn-cli-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _left_behind = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn wrong_usage_is_64_with_help_on_stderr() {
    for arguments in [
        &[][..],
        &["plan"],
        &["apply"],
        &["diff"],
        &["validate"],
        &["destroy"],
        &["graph"],
        &["plan", "-f", "-", "--no-such-flag"],
        &["plan", "-f", "-", "-o", "xml"],
        &["no-such-command"],
        &["show", "Not_a_name"],
        &["completion", "tcl"],
        &["apply", "-f", "-", "--lock-timeout", "30"],
        &["destroy", "one", "-f", "two.yaml"],
        &["watch", "-f", "-"],
        &["watch", "-f", "a.yaml", "--interval", "0"],
        &["watch"],
    ] {
        let output = run(arguments);
        ends_with(&output, ExitCode::Usage);
        assert_eq!(stdout(&output), "", "{arguments:?}");
        let text = stderr(&output);
        assert!(
            text.contains("Usage: pcn") || text.contains("--help"),
            "{arguments:?}: {text}"
        );
    }
    assert!(stderr(&run(&[])).contains("Commands:"));
}

#[test]
fn asking_for_help_is_no_error() {
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["help", "plan"],
        &["plan", "--help"],
        &["show", "-h"],
    ] {
        let output = run(arguments);
        ends_with(&output, ExitCode::Done);
        assert_ne!(stdout(&output), "");
        assert_eq!(stderr(&output), "");
    }
    assert_eq!(
        stdout(&run(&["--version"])),
        format!("pcn {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn changes_need_a_terminal_or_yes() {
    let scratch = Scratch::new("yes");
    let file = scratch.file("a.yaml", &topology("a"));
    for arguments in [
        &["apply", "-f", &file][..],
        &["destroy", "a"],
        &["destroy", "-f", &file],
    ] {
        let output = run(arguments);
        ends_with(&output, ExitCode::Usage);
        assert!(stderr(&output).contains("--yes"));
    }
}

#[test]
fn validate_says_valid() {
    let scratch = Scratch::new("valid");
    let a = scratch.file("a.yaml", &topology("a"));
    let b = scratch.file("b.yml", &topology("b"));
    scratch.file("ignored.txt", "no topology");
    let output = run(&["validate", "-f", &a]);
    ends_with(&output, ExitCode::Done);
    assert_eq!(
        (stdout(&output), stderr(&output)),
        (format!("{a}: valid\n"), String::new())
    );
    // A directory, and the flag repeated.
    let expected = format!("{a}: valid\n{b}: valid\n");
    assert_eq!(stdout(&run(&["validate", "-f", scratch.path()])), expected);
    assert_eq!(stdout(&run(&["validate", "-f", &a, "-f", &b])), expected);
    assert_eq!(
        stdout(&run_with_stdin(&["validate", "-f", "-"], &topology("c"))),
        "<stdin>: valid\n"
    );
}

#[test]
fn invalid_files_are_65_with_their_places() {
    let text = topology("a")
        .replace("sources:", "source:")
        .replace("br1:p2", "br2:p2");
    let output = run_with_stdin(&["validate", "-f", "-"], &text);
    ends_with(&output, ExitCode::InvalidFile);
    assert_eq!(stdout(&output), "");
    is_golden("invalid.txt", &stderr(&output));
    let json = run_with_stdin(&["validate", "-f", "-", "-o", "json"], &text);
    ends_with(&json, ExitCode::InvalidFile);
    assert_eq!(stderr(&json), stderr(&output));
    is_golden("invalid.json", &stdout(&json));
    for command in ["plan", "diff", "graph"] {
        ends_with(
            &run_with_stdin(&[command, "-f", "-"], &text),
            ExitCode::InvalidFile,
        );
    }
    for command in ["apply", "destroy"] {
        ends_with(
            &run_with_stdin(&[command, "--yes", "-f", "-"], &text),
            ExitCode::InvalidFile,
        );
    }
}

#[test]
fn bytes_that_are_no_text_are_65() {
    let scratch = Scratch::new("utf8");
    let path = scratch.0.join("a.yaml");
    fs::write(&path, b"apiVersion: x\nkind: \xff\n").unwrap();
    let output = run(&["validate", "-f", path.to_str().unwrap()]);
    ends_with(&output, ExitCode::InvalidFile);
    assert!(
        stderr(&output).contains("a.yaml:2:7: error"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn one_name_twice_is_65() {
    let scratch = Scratch::new("duplicate");
    scratch.file("a.yaml", &topology("same"));
    scratch.file("b.yaml", &topology("same"));
    for command in ["validate", "plan"] {
        let output = run(&[command, "-f", scratch.path()]);
        ends_with(&output, ExitCode::InvalidFile);
        assert!(
            stderr(&output).contains("topology `same` is in"),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn files_that_cannot_be_read_are_1() {
    let scratch = Scratch::new("unreadable");
    for path in [scratch.0.join("missing.yaml"), scratch.0.clone()] {
        let output = run(&["validate", "-f", path.to_str().unwrap()]);
        ends_with(&output, ExitCode::Error);
        assert!(
            stderr(&output).contains(path.to_str().unwrap()),
            "{}",
            stderr(&output)
        );
    }
    ends_with(&run(&["validate", "-f", "-", "-f", "-"]), ExitCode::Usage);
}

#[test]
fn flags_come_from_the_environment_and_win() {
    let scratch = Scratch::new("environment");
    let file = scratch.file("a.yaml", &topology("a"));
    let environment = |arguments: &[&str], variables: &[(&str, &str)]| {
        pcn()
            .args(arguments)
            .envs(variables.iter().copied())
            .output()
            .unwrap()
    };
    let output = environment(
        &["validate"],
        &[("PCN_FILE", &file), ("PCN_OUTPUT", "json")],
    );
    ends_with(&output, ExitCode::Done);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        json,
        serde_json::json!({ "formatVersion": "1.0", "valid": true, "diagnostics": [] })
    );
    let output = environment(
        &["validate", "-o", "text"],
        &[("PCN_FILE", &file), ("PCN_OUTPUT", "json")],
    );
    assert_eq!(stdout(&output), format!("{file}: valid\n"));
    ends_with(
        &environment(&["apply", "-f", &file], &[("PCN_YES", "perhaps")]),
        ExitCode::Usage,
    );
    // A file from the environment does not stand in the way of a name.
    let output = environment(&["destroy", "one"], &[("PCN_FILE", &file)]);
    assert!(stderr(&output).contains("--yes"), "{}", stderr(&output));
}

#[test]
fn without_privilege_is_77() {
    let scratch = Scratch::new("privilege");
    let file = scratch.file("a.yaml", &topology("a"));
    // Where everybody may run it.
    let binary = scratch.0.join("pcn");
    fs::copy(env!("CARGO_BIN_EXE_pcn"), &binary).unwrap();
    for arguments in [
        &["plan", "-f", &file][..],
        &["diff", "-f", &file],
        &["apply", "--yes", "-f", &file],
        &["destroy", "--yes", "a"],
        &["show"],
        &["show", "a"],
        &["graph", "a"],
        &["doctor"],
    ] {
        let mut command = Command::new(&binary);
        command.args(arguments).stdin(Stdio::null());
        if nix::unistd::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        let output = command.output().unwrap();
        ends_with(&output, ExitCode::NotPermitted);
        let said = stdout(&output) + &stderr(&output);
        assert!(said.contains("CAP_BPF"), "{arguments:?}: {said}");
    }
}

/// The lock files are root's.
#[test]
fn a_lock_that_is_held_is_75() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let scratch = Scratch::new("lock");
    let file = scratch.file("a.yaml", &topology("a"));
    let name = "a".parse().unwrap();
    let _lock = Lock::acquire(&scratch.0, &name, Duration::ZERO).unwrap();
    for arguments in [&["apply", "-f", &file][..], &["destroy", "a"]] {
        let options = ["--yes", "--lock-timeout", "0", "--bpffs", scratch.path()];
        let output = pcn().args(arguments).args(options).output().unwrap();
        ends_with(&output, ExitCode::Busy);
        let holder = format!("process {}", std::process::id());
        assert!(stderr(&output).contains(&holder), "{}", stderr(&output));
    }
}

#[test]
fn graphs_are_drawn() {
    for (language, file) in [("dot", "graph.dot"), ("mermaid", "graph.mmd")] {
        let output = run_with_stdin(&["graph", "-f", "-", "-o", language], &topology("a"));
        ends_with(&output, ExitCode::Done);
        is_golden(file, &stdout(&output));
        // Ends of links and their order do not matter.
        let turned = topology("a").replace(
            "[br1:p1, h1/eth0]\n    - [eth1, br1:p2]",
            "[br1:p2, eth1]\n    - [h1/eth0, br1:p1]",
        );
        assert_ne!(turned, topology("a"));
        assert_eq!(
            output.stdout,
            run_with_stdin(&["graph", "-f", "-", "-o", language], &turned).stdout
        );
    }
}

#[test]
fn schema_completion_and_manual_are_printed() {
    let schema: Value = serde_json::from_slice(&run(&["schema"]).stdout).unwrap();
    assert_eq!(schema, topology_schema::json_schema());
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(&["completion", shell]);
        ends_with(&output, ExitCode::Done);
        assert!(stdout(&output).contains("detailed-exitcode"));
    }
    let manual = stdout(&run(&["man"]));
    for command in reconciler::cli::command().get_subcommands() {
        assert!(manual.contains(&format!("PCN {}", command.get_name().to_uppercase())));
    }
    assert!(manual.contains("EXIT STATUS"));
}

/// `pcn schema | head -1`: the reader goes away before all is written.
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = pcn()
        .arg("schema")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    ends_with(&output, ExitCode::Done);
    assert_eq!(stderr(&output), "");
}

#[test]
fn nothing_is_coloured_where_nobody_looks() {
    for arguments in [
        &["validate", "-f", "/no/such/file"][..],
        &["plan", "-f", "/no/such/file"],
    ] {
        let output = run(arguments);
        assert!(!stderr(&output).contains('\x1b'));
    }
}

/// Transactions as they were written once: what reads them goes on to read them.
#[test]
fn history_is_shown() {
    let scratch = Scratch::new("history");
    let folder = scratch.0.join("lan");
    fs::create_dir_all(&folder).unwrap();
    for number in 1..=3 {
        let name = format!("{number:06}.json");
        fs::copy(golden_path("history").join(&name), folder.join(&name)).unwrap();
    }
    let history = |arguments: &[&str], code: ExitCode| {
        let output = pcn()
            .arg("history")
            .args(arguments)
            .args(["--state", scratch.path()])
            .output()
            .unwrap();
        ends_with(&output, code);
        output
    };
    let shown = |arguments: &[&str]| stdout(&history(arguments, ExitCode::Done));
    is_golden("history.txt", &shown(&[]));
    is_golden("history.json", &shown(&["lan", "-o", "json"]));
    is_golden("history-show-1.txt", &shown(&["show", "1"]));
    is_golden("history-show-2.txt", &shown(&["show", "lan", "2"]));
    is_golden("history-show-2.json", &shown(&["show", "2", "-o", "json"]));
    // What was taken back ran on; of what came to no end nobody knows.
    is_golden("history-show-1.yaml", &shown(&["show", "1", "-o", "yaml"]));
    assert_eq!(
        shown(&["show", "1", "-o", "yaml"]),
        shown(&["show", "2", "-o", "yaml"])
    );
    let unknown = history(&["show", "3", "-o", "yaml"], ExitCode::Error);
    assert!(
        stderr(&unknown).contains("interrupted"),
        "{}",
        stderr(&unknown)
    );
    for (arguments, code, said) in [
        (&["show", "4"][..], ExitCode::Error, "it has 1 to 3"),
        (&["show", "wan", "1"], ExitCode::Error, "it has no history"),
        (&["show"], ExitCode::Usage, "<N>"),
        (&["show", "lan", "x"], ExitCode::Usage, "invalid value"),
        (&["Not_a_name"], ExitCode::Usage, "invalid value"),
    ] {
        let output = history(arguments, code);
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
    // A file that is broken is told of, and does not hide the others.
    fs::write(folder.join("000002.json"), "{ \"time\": 1").unwrap();
    let output = history(&["lan"], ExitCode::Done);
    assert_eq!(stdout(&output).lines().count(), 3);
    assert!(stderr(&output).contains("transaction 2 of lan is left out"));
    let other = shown(&["wan", "-o", "json"]);
    let other: Value = serde_json::from_str(&other).unwrap();
    assert_eq!(other["transactions"], serde_json::json!([]));
}
