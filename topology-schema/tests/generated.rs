//! The JSON Schema: that the file under `docs/` is what the types give, and that it agrees with the parser.
//! `UPDATE_GOLDEN=1` rewrites the file.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test panics like the test"
)]

#[path = "support/golden.rs"]
mod golden;

use std::fs;
use std::path::Path;

use jsonschema::Validator;
use serde_json::{Value, json};
use topology_schema::{Cube, CubeKind, Source, json_schema, parse};

/// What only reading the text can find: it is gone once the text is a value.
const ABOUT_TEXT: [&str; 10] = [
    "alias-cycle",
    "complex-key",
    "duplicate-key",
    "empty-document",
    "several-documents",
    "syntax",
    "too-deep",
    "too-large",
    "unknown-anchor",
    "unsupported-tag",
];

/// What no pattern can say.
const BEYOND_PATTERNS: [&str; 2] = ["host-bits-set", "empty-range"];

fn validator() -> Validator {
    let schema = json_schema();
    jsonschema::draft202012::meta::validate(&schema).unwrap();
    jsonschema::draft202012::new(&schema).unwrap()
}

/// The value by another reader than the parser of this crate.
fn read_independently(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

#[test]
fn schema_file_is_fresh() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema/topology.schema.json");
    let text = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
    golden::all(std::iter::once(golden::compare(&file, &text)));
}

#[test]
fn schema_and_parser_agree_on_every_case() {
    let validator = validator();
    let mut compared = 0;
    for folder in ["valid", "invalid"] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/cases")
            .join(folder);
        for case in fs::read_dir(root).unwrap() {
            let file = case.unwrap().path().join("topology.yaml");
            let text = fs::read_to_string(&file).unwrap();
            let source = Source {
                name: file.display().to_string(),
                text,
            };
            let problems = parse(&source)
                .err()
                .map(|problems| problems.into_vec())
                .unwrap_or_default();
            let codes: Vec<&str> = problems.iter().map(|problem| problem.code).collect();
            if codes.iter().any(|code| ABOUT_TEXT.contains(code)) {
                continue;
            }
            let structural = codes.iter().any(|code| !BEYOND_PATTERNS.contains(code));
            let value = read_independently(&source.text);
            let refusals: Vec<String> = validator
                .iter_errors(&value)
                .map(|error| error.to_string())
                .collect();
            assert_eq!(
                structural,
                !refusals.is_empty(),
                "{}: parser {codes:?}, schema {refusals:?}",
                source.name
            );
            compared += 1;
        }
    }
    assert!(compared >= 60, "only {compared} cases were compared");
}

/// One value at a time, so that one problem cannot hide that another is not seen.
#[test]
fn schema_and_parser_agree_on_single_values() {
    let validator = validator();
    let names = ["a", "a-b", "0", "", "-a", "a-", "A", "a_b", "a.b", "é"];
    let long = ["a".repeat(32), "a".repeat(33)];
    for name in names.into_iter().chain(long.iter().map(String::as_str)) {
        agree(&validator, &json!({ "cubes": { name: { "bridge": {} } } }));
        agree(
            &validator,
            &json!({ "interfaces": { "e": { "through": [name] } } }),
        );
        agree(
            &validator,
            &json!({ "links": [[format!("{name}:p"), format!("c:{name}")]] }),
        );
        agree(
            &validator,
            &json!({ "links": [[format!("{name}/e"), "c:p"]] }),
        );
    }
    let interfaces = [
        "eth0", "eth0.1", ".", "..", "...", "all", "default", "a b", "a/b", "a:b", "a%b", "é", "~",
        "!",
    ];
    let long = ["a".repeat(15), "a".repeat(16)];
    for name in interfaces
        .into_iter()
        .chain(long.iter().map(String::as_str))
    {
        agree(&validator, &json!({ "interfaces": { name: {} } }));
        agree(
            &validator,
            &json!({ "links": [[format!("n/{name}"), "c:p"]] }),
        );
        agree(&validator, &json!({ "links": [["c:p", name]] }));
    }
    for time in [
        "1s", "0s", "300", "5m", "1h30m", "1h5s", "5s5m", "", "h", "1d", "999999s", "1000000s",
        "00s", "01s", "1.5s", "-1s", " 1s", "5ms",
    ] {
        agree(
            &validator,
            &json!({ "cubes": { "b": { "bridge": { "agingTime": time } } } }),
        );
    }
    for size in [
        json!(15),
        json!(16),
        json!(1_048_576),
        json!(1_048_577),
        json!(-1),
        json!("16"),
        json!(16.5),
        json!(true),
        json!(null),
    ] {
        agree(
            &validator,
            &json!({ "cubes": { "b": { "bridge": { "fdbSize": size } } } }),
        );
    }
    for mac in [
        "02:00:00:00:00:01",
        "02:00:00:00:00:0G",
        "02:00:00:00:00",
        "2:0:0:0:0:1",
        "FF:FF:ff:ff:ff:ff",
        "02:00:00:00:00:01:02",
        "02-00-00-00-00-01",
    ] {
        agree(
            &validator,
            &json!({ "cubes": { "b": { "bridge": { "ports": { "p": { "mac": mac } } } } } }),
        );
    }
    let addresses = [
        "10.0.0.0",
        "10.0.0.0/8",
        "10.0.0.0/32",
        "10.0.0.0/33",
        "10.0.0.0/08",
        "256.0.0.0/8",
        "01.0.0.0/8",
        "10.0.0/8",
        "::",
        "::/0",
        "::/128",
        "::/129",
        "fd00::/64",
        "default",
        "Default",
        "",
        "/",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "fd00::/064",
    ];
    for address in addresses {
        agree(
            &validator,
            &json!({ "cubes": { "d": { "ddosMitigator": { "sources": [address] } } } }),
        );
        agree(
            &validator,
            &json!({ "namespaces": { "n": { "interfaces": { "e": { "addresses": [address] } } } } }),
        );
        let route = |to: &str, via: &str| json!({ "namespaces": { "n": { "interfaces": { "e": { "routes": [{ "to": to, "via": via }] } } } } });
        agree(&validator, &route(address, "10.0.0.1"));
        agree(&validator, &route("default", address));
    }
}

fn agree(validator: &Validator, spec: &Value) {
    let document = json!({
        "apiVersion": "pcn.dev/v1alpha1", "kind": "Topology", "metadata": { "name": "t" }, "spec": spec,
    });
    eprintln!("{spec}");
    let source = Source {
        name: "value.json".to_owned(),
        text: document.to_string(),
    };
    let parsed = parse(&source).map_err(|problems| problems.render(&source));
    let accepted = validator.is_valid(&document);
    assert_eq!(
        parsed.is_ok(),
        accepted,
        "{spec}: schema accepts: {accepted}, parser says: {parsed:?}"
    );
}

#[test]
fn outermost_fields_are_those_of_the_schema() {
    let schema = json_schema();
    let root = json!({ "apiVersion": "pcn.dev/v1alpha1", "kind": "Topology", "metadata": { "name": "t" } });
    let with = |key: &str, value: Value| {
        let mut document = root.clone();
        document[key] = value;
        document
    };
    let places = [
        (&schema["properties"], with("x", json!({}))),
        (
            &schema["$defs"]["Spec"]["properties"],
            with("spec", json!({ "x": {} })),
        ),
        (
            &schema["$defs"]["Namespace"]["properties"],
            with("spec", json!({ "namespaces": { "n": { "x": {} } } })),
        ),
    ];
    for (properties, document) in places {
        let source = Source {
            name: "x.json".to_owned(),
            text: document.to_string(),
        };
        let problems = parse(&source).unwrap_err().into_vec();
        let unknown = problems
            .iter()
            .find(|problem| problem.code == "unknown-field")
            .unwrap();
        let help = unknown.help.as_deref().unwrap();
        let names: Vec<&String> = properties.as_object().unwrap().keys().collect();
        assert!(
            !names.is_empty() && names.iter().all(|name| help.contains(&format!("`{name}`"))),
            "{help}"
        );
        assert_eq!(help.matches('`').count(), 2 * names.len(), "{help}");
    }
}

#[test]
fn defaults_of_the_schema_are_those_of_the_types() {
    let schema = json_schema();
    let (mut seen, mut cubes) = (0, Vec::new());
    for kind in CubeKind::ALL {
        let of_kind = &schema["$defs"]
            .as_object()
            .unwrap()
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(kind.name()));
        let properties = of_kind.unwrap().1["properties"].as_object().unwrap();
        let defaults: serde_json::Map<String, Value> = properties
            .iter()
            .filter_map(|(name, field)| Some((name.clone(), field.get("default")?.clone())))
            .collect();
        seen += defaults.len();
        cubes.push(json!({ kind.name(): defaults }));
    }
    for cube in cubes {
        let read: Cube = serde_json::from_value(cube.clone()).unwrap();
        let settings = serde_json::to_value(&read).unwrap();
        assert_eq!(
            settings,
            json!({ read.kind().name(): {} }),
            "{cube} are not the defaults"
        );
    }
    assert_eq!(seen, 11);
}
