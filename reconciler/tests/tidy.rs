//! Rules about the source tree that the compiler does not check.

use std::{
    fs,
    path::{Path, PathBuf},
};

use topology_schema::CubeKind;

/// Lines a source file may have; tests and tables may be longer.
const LINES: usize = 420;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// `ddosMitigator` with `separator` between its words.
fn words(kind: CubeKind, separator: char) -> String {
    let mut words = String::new();
    for letter in kind.name().chars() {
        if letter.is_ascii_uppercase() {
            words.push(separator);
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

/// Rust sources below a folder, build output excepted.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return found;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn every_kind_is_everywhere() {
    let mut missing = Vec::new();
    for kind in CubeKind::ALL {
        let stem = words(kind, '_');
        let places = [
            format!("topology-schema/src/cube/{stem}.rs"),
            format!("ebpf/abi/src/{stem}.rs"),
            format!("ebpf/programs/src/bin/{stem}"),
            format!("reconciler/src/cube/{stem}.rs"),
            format!("tests/tests/dataplane/{stem}"),
            format!("examples/topologies/{}.yaml", words(kind, '-')),
        ];
        for place in places {
            // A data plane and its tests are a file or a folder.
            let path = root().join(&place);
            if !path.exists() && !path.with_extension("rs").exists() {
                missing.push(place);
            }
        }
    }
    assert!(missing.is_empty(), "missing: {missing:#?}");
}

#[test]
fn every_source_file_says_what_it_is() {
    let mut silent = Vec::new();
    for folder in ["topology-schema", "ebpf", "reconciler", "tests"] {
        for path in sources(&root().join(folder)) {
            let text = fs::read_to_string(&path).expect("a source file can be read");
            if !text.starts_with("//!") {
                silent.push(path);
            }
        }
    }
    assert!(silent.is_empty(), "no module documentation: {silent:#?}");
}

#[test]
fn no_source_file_is_too_long() {
    let mut long = Vec::new();
    for folder in [
        "topology-schema/src",
        "ebpf/abi/src",
        "ebpf/programs/src",
        "reconciler/src",
    ] {
        for path in sources(&root().join(folder)) {
            let text = fs::read_to_string(&path).expect("a source file can be read");
            let is_test = path.components().any(|part| part.as_os_str() == "tests")
                || path.file_stem().is_some_and(|stem| stem == "tests");
            let lines = text.lines().count();
            if !is_test && lines > LINES {
                long.push((path, lines));
            }
        }
    }
    assert!(long.is_empty(), "over {LINES} lines: {long:#?}");
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    for manifest in ["topology-schema", "ebpf/abi", "reconciler", "tests"] {
        let path = root().join(manifest).join("Cargo.toml");
        let text = fs::read_to_string(&path).expect("a manifest can be read");
        assert!(
            text.contains("[lints]\nworkspace = true"),
            "{} does not inherit the lints",
            path.display()
        );
    }
}

#[test]
fn unsafe_code_is_where_it_may_be() {
    let allowed = [root().join("reconciler/src/kernel"), root().join("tests")];
    for folder in ["topology-schema", "ebpf/abi", "reconciler/src", "tests"] {
        for path in sources(&root().join(folder)) {
            let text = fs::read_to_string(&path).expect("a source file can be read");
            let uses = text.lines().map(str::trim_start).any(|line| {
                !line.starts_with("//") && (line.contains("unsafe {") || line.contains("unsafe fn"))
            });
            let may = allowed.iter().any(|folder| path.starts_with(folder));
            assert!(!uses || may, "unsafe code in {}", path.display());
        }
    }
}
