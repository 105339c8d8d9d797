//! What holds for every topology and for every text.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test panics like the test"
)]

#[path = "support/arbitrary.rs"]
mod arbitrary;

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use topology_schema::{Diagnostics, Locations, Source, Topology, load, parse, to_yaml, validate};

fn source(text: String) -> Source {
    Source {
        name: "random.yaml".to_owned(),
        text,
    }
}

/// Diagnostics without their places.
fn findings(diagnostics: &Diagnostics) -> Vec<(String, &'static str, String)> {
    let mut findings: Vec<_> = diagnostics
        .iter()
        .map(|found| (found.path.to_string(), found.code, found.message.clone()))
        .collect();
    findings.sort();
    findings
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn canonical_text_reads_back(topology in arbitrary::topology()) {
        let text = source(to_yaml(&topology));
        let back = parse(&text).map_err(|problems| TestCaseError::fail(format!("{}\n{}", problems.render(&text), text.text)))?;
        prop_assert_eq!(&back, &topology, "{}", text.text);
        prop_assert_eq!(to_yaml(&back), text.text);
    }

    #[test]
    fn json_reads_back_with_serde_and_with_parse(topology in arbitrary::topology()) {
        let json = serde_json::to_string(&topology).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Topology>(&json).unwrap(), &topology);
        let pretty = source(serde_json::to_string_pretty(&topology).unwrap());
        prop_assert_eq!(&parse(&pretty).unwrap(), &topology);
        prop_assert_eq!(&parse(&source(json)).unwrap(), &topology);
    }

    #[test]
    fn places_change_nothing_but_places(topology in arbitrary::topology()) {
        let text = source(to_yaml(&topology));
        match (validate(topology, &Locations::none()), load(&text)) {
            (Ok((a, warnings)), Ok((b, located))) => {
                prop_assert_eq!(a, b);
                prop_assert_eq!(findings(&warnings), findings(&located));
            }
            (Err(problems), Err(located)) => {
                prop_assert_eq!(findings(&problems), findings(&located));
                prop_assert!(located.iter().all(|problem| problem.location.is_some()));
            }
            (a, b) => prop_assert!(false, "{a:?} {b:?}"),
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        check(text);
    }

    #[test]
    fn no_text_with_the_letters_of_yaml_makes_it_panic(text in "[-a-c0-9:{}\\[\\]&*!?|>#%@,'\" \n\t.]{0,200}") {
        check(text);
    }

    #[test]
    fn no_change_to_a_topology_makes_it_panic(
        topology in arbitrary::topology(),
        changes in prop::collection::vec((any::<u32>(), any::<u32>(), 0..6_u8, any::<u8>()), 1..8),
    ) {
        let mut bytes = to_yaml(&topology).into_bytes();
        for change in changes {
            mutate(&mut bytes, change);
        }
        check(String::from_utf8_lossy(&bytes).into_owned());
    }

    #[test]
    fn no_change_to_a_case_makes_it_panic(
        case in prop::sample::select(texts()),
        changes in prop::collection::vec((any::<u32>(), any::<u32>(), 0..6_u8, any::<u8>()), 1..4),
    ) {
        let mut bytes = case.into_bytes();
        for change in changes {
            mutate(&mut bytes, change);
        }
        check(String::from_utf8_lossy(&bytes).into_owned());
    }
}

fn check(text: String) {
    let text = source(text);
    match load(&text) {
        Ok((topology, warnings)) => {
            assert!(!warnings.has_errors());
            let again = source(to_yaml(&topology));
            assert_eq!(parse(&again).unwrap(), topology.into_inner());
        }
        Err(problems) => {
            assert!(problems.has_errors(), "refused without a reason");
            assert!(!problems.render(&text).is_empty());
            assert!(
                problems.is_sorted_by_key(|problem| (problem.location.is_none(), problem.location))
            );
        }
    }
}

/// One change of a text: bytes changed, removed, repeated, moved, or a letter of YAML put in.
fn mutate(bytes: &mut Vec<u8>, (a, b, how, byte): (u32, u32, u8, u8)) {
    if bytes.is_empty() {
        return;
    }
    let at = |position: u32| usize::try_from(position).unwrap() % bytes.len();
    let (from, to) = (at(a).min(at(b)), at(a).max(at(b)));
    let some = to.min(from + 40);
    match how {
        0 => bytes[from] = byte,
        1 => drop(bytes.drain(from..some)),
        2 => {
            let copy = bytes[from..some].to_vec();
            bytes.splice(to..to, copy);
        }
        3 => bytes.swap(from, to),
        4 => {
            const LETTERS: &[u8] = b"-:{}[]&*!?|>#%@,'\" \n\t0~";
            bytes.insert(from, LETTERS[usize::from(byte) % LETTERS.len()]);
        }
        _ => bytes.truncate(to),
    }
}

fn texts() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let folders = ["valid", "invalid"]
        .into_iter()
        .flat_map(|folder| fs::read_dir(root.join(folder)).unwrap());
    let mut texts: Vec<String> = folders
        .map(|case| fs::read_to_string(case.unwrap().path().join("topology.yaml")).unwrap())
        .collect();
    texts.sort();
    texts
}
