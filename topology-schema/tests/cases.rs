//! Folders of cases: a topology and the diagnostics that it gets. `UPDATE_GOLDEN=1` rewrites them.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test panics like the test"
)]

#[path = "support/golden.rs"]
mod golden;

use std::fs;
use std::path::{Path, PathBuf};

use topology_schema::{Diagnostics, Source, ValidTopology, load, parse, to_yaml};

fn cases(folder: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cases")
        .join(folder);
    let mut cases: Vec<PathBuf> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    cases
}

fn read(case: &Path) -> Source {
    let text = fs::read_to_string(case.join("topology.yaml")).unwrap();
    assert!(
        text.starts_with("# "),
        "{}: the first line says what the case shows",
        case.display()
    );
    Source {
        name: "topology.yaml".to_owned(),
        text,
    }
}

fn compare(case: &Path, diagnostics: &Diagnostics, source: &Source) -> Result<(), String> {
    for diagnostic in diagnostics {
        let kebab = |c: char| c.is_ascii_lowercase() || c == '-';
        assert!(diagnostic.code.chars().all(kebab), "{}", diagnostic.code);
        for jargon in [
            "struct", "enum", "variant", "u16", "u32", "u64", "i64", "newtype", "tuple", "Option",
            "serde",
        ] {
            let message = &diagnostic.message;
            assert!(!message.contains(jargon), "{}: {message}", case.display());
        }
    }
    golden::compare(&case.join("diagnostics.txt"), &diagnostics.render(source))
}

#[test]
fn invalid_topologies_are_refused_with_their_diagnostics() {
    let cases = cases("invalid");
    assert!(cases.len() >= 50, "only {} cases", cases.len());
    golden::all(cases.iter().map(|case| {
        let source = read(case);
        match load(&source) {
            Ok(_) => Err(format!("{} is accepted", case.display())),
            Err(diagnostics) => {
                assert!(diagnostics.has_errors());
                compare(case, &diagnostics, &source)
            }
        }
    }));
}

#[test]
fn valid_topologies_are_accepted_with_their_warnings() {
    golden::all(cases("valid").iter().map(|case| {
        let source = read(case);
        let (topology, warnings): (ValidTopology, Diagnostics) =
            load(&source).map_err(|diagnostics| diagnostics.render(&source))?;
        let warned = case
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("warn-"));
        assert!(
            warned != warnings.is_empty(),
            "{}",
            warnings.render(&source)
        );

        let text = to_yaml(&topology);
        let again = Source {
            name: "canonical.yaml".to_owned(),
            text,
        };
        let back = parse(&again).map_err(|diagnostics| diagnostics.render(&again))?;
        assert_eq!(back, *topology.topology(), "{}", again.text);
        assert_eq!(to_yaml(&back), again.text);

        golden::compare(&case.join("canonical.yaml"), &again.text)?;
        if warnings.is_empty() {
            Ok(())
        } else {
            compare(case, &warnings, &source)
        }
    }));
}

#[test]
fn every_place_is_inside_of_the_text() {
    for case in cases("invalid") {
        let source = read(&case);
        let lines: Vec<&str> = source.text.lines().collect();
        for diagnostic in load(&source).unwrap_err() {
            let Some(location) = diagnostic.location else {
                continue;
            };
            let line = usize::try_from(location.line).unwrap();
            assert!(
                (1..=lines.len() + 1).contains(&line),
                "{}: {diagnostic:?}",
                case.display()
            );
            assert!(location.column >= 1 && location.length >= 1);
        }
    }
}
