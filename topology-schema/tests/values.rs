//! The text forms of values, the limits of cubes, and what scripts get to see.

use std::fmt::{Debug, Display, Write as _};
use std::net::IpAddr;
use std::str::FromStr;

use serde_json::json;
use topology_schema::{
    Bounded, CubeKind, Diagnostics, Endpoint, InterfaceAddress, InterfaceName, MacAddr, Name,
    Prefix, RouteTarget, Seconds, Severity, Source, load, parse,
};

fn reads<T: FromStr<Err: Debug> + Display>(text: &str, canonical: &str) {
    let value: T = text
        .parse()
        .unwrap_or_else(|error| panic!("{text}: {error:?}"));
    assert_eq!(value.to_string(), canonical);
    assert_eq!(
        canonical
            .parse::<T>()
            .map(|value| value.to_string())
            .ok()
            .as_deref(),
        Some(canonical)
    );
}

fn refuses<T: FromStr<Err: Display> + Debug>(text: &str, part: &str) {
    let error = text.parse::<T>().expect_err(text).to_string();
    assert!(error.contains(part), "{text}: {error}");
}

#[test]
fn text_forms() {
    reads::<Name>("a-1", "a-1");
    refuses::<Name>("", "empty");
    refuses::<Name>("é", "not allowed");
    refuses::<Name>("A-", "not allowed");
    refuses::<Name>(&"x".repeat(33), "longer");
    reads::<InterfaceName>("eth0.100", "eth0.100");
    refuses::<InterfaceName>("..", "kernel");
    reads::<MacAddr>("02:AB:cd:00:00:0f", "02:ab:cd:00:00:0f");
    refuses::<MacAddr>("+2:00:00:00:00:01", "no MAC");
    reads::<Prefix>("10.0.0.1", "10.0.0.1/32");
    reads::<Prefix>("fd00:0:0::1", "fd00::1/128");
    reads::<Prefix>("FD00::/16", "fd00::/16");
    refuses::<Prefix>("10.0.0.0/+8", "no network");
    refuses::<Prefix>("10.0.0.0/ 8", "no network");
    refuses::<Prefix>("fe80::1%eth0", "no network");
    reads::<InterfaceAddress>("10.0.0.1/24", "10.0.0.1/24");
    reads::<RouteTarget>("default", "default");
    reads::<Seconds>("5m", "300s");
    reads::<Seconds>("1h1m1s", "3661s");
    reads::<Seconds>("999999h", "999999h");
    reads::<Seconds>("999999h999999m999999s", "999999h999999m999999s");
    reads::<Endpoint>("br1:p1", "br1:p1");
    reads::<Endpoint>("h1/eth0.1", "h1/eth0.1");
    reads::<Endpoint>("eth0.1", "eth0.1");
    refuses::<Endpoint>("a:b:c", "not allowed");
    refuses::<Endpoint>("a/b/c", "not allowed");
}

#[test]
fn every_duration_reads_back() {
    for seconds in [
        1,
        59,
        60,
        999_999,
        1_000_000,
        3_600_000,
        3_600_001,
        3_661_061,
        3_660_996_339,
    ] {
        let duration = Seconds::new(seconds).unwrap();
        assert_eq!(
            duration.to_string().parse::<Seconds>().unwrap(),
            duration,
            "{duration}"
        );
    }
    assert_eq!([0, 3_660_996_340].map(Seconds::new), [None; 2]);
}

#[test]
fn ranges_include_their_ends() {
    assert!(Bounded::<2, 4>::new(1).is_none() && Bounded::<2, 4>::new(5).is_none());
    assert_eq!(
        [2, 4].map(|n| Bounded::<2, 4>::new(n).unwrap().get()),
        [2, 4]
    );
}

#[test]
fn default_follows_the_family_of_the_next_hop() {
    let via = |text: &str| {
        RouteTarget::Default
            .prefix(text.parse::<IpAddr>().unwrap())
            .to_string()
    };
    assert_eq!(
        (via("10.0.0.1").as_str(), via("fd00::1").as_str()),
        ("0.0.0.0/0", "::/0")
    );
}

#[test]
fn kinds_are_sorted_and_named_as_in_yaml() {
    assert!(CubeKind::ALL.is_sorted_by_key(|kind| kind.name()));
    for kind in CubeKind::ALL {
        let ports = if kind == CubeKind::Router {
            "{ ports: {} }"
        } else {
            "{}"
        };
        let loaded = load(&document(&format!("cubes: {{ c: {{ {kind}: {ports} }} }}")))
            .unwrap()
            .0;
        assert_eq!(loaded.spec.cubes["c"].kind(), kind);
    }
}

fn document(spec: &str) -> Source {
    let head = "apiVersion: pcn.dev/v1alpha1\nkind: Topology\nmetadata: { name: t }\nspec:\n";
    Source {
        name: "t.yaml".to_owned(),
        text: format!("{head}  {}\n", spec.replace('\n', "\n  ")),
    }
}

fn problems(spec: &str) -> Diagnostics {
    load(&document(spec)).expect_err(spec)
}

fn codes(diagnostics: &Diagnostics) -> Vec<&str> {
    diagnostics
        .iter()
        .map(|diagnostic| diagnostic.code)
        .collect()
}

fn list(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(", ")
}

#[test]
fn cubes_have_limits() {
    let links = |count| list(count, |i| format!("[br1:p{i}, e{i}]"));
    let bridge = |count| {
        format!(
            "cubes: {{ br1: {{ bridge: {{}} }} }}\nlinks: [{}]",
            links(count)
        )
    };
    assert!(load(&document(&bridge(1024))).is_ok());
    assert_eq!(codes(&problems(&bridge(1025))), ["limit-exceeded"]);

    let addresses = |count| {
        let addresses = list(count, |i| format!("10.{}.{}.1/24", i / 256, i % 256));
        format!(
            "cubes: {{ r: {{ router: {{ ports: {{ a: {{ addresses: [{addresses}] }} }} }} }} }}\nlinks: [[r:a, e]]"
        )
    };
    assert!(load(&document(&addresses(1024))).is_ok());
    assert_eq!(codes(&problems(&addresses(1025))), ["limit-exceeded"]);

    let routes = |count| {
        let routes = list(count, |i| {
            format!(
                "{{ to: 10.{}.{}.{}/32, via: 192.0.2.2 }}",
                i >> 16,
                i >> 8 & 255,
                i & 255
            )
        });
        let ports = "{ a: { addresses: [192.0.2.1/24] } }";
        format!(
            "cubes: {{ r: {{ router: {{ ports: {ports}, routes: [{routes}] }} }} }}\nlinks: [[r:a, e]]"
        )
    };
    assert!(load(&document(&routes(131_072))).is_ok());
    assert_eq!(codes(&problems(&routes(131_073))), ["limit-exceeded"]);
}

#[test]
fn a_long_list_of_prefixes_is_read() {
    let sources = list(300_000, |i| {
        format!("10.{}.{}.{}", i >> 16, i >> 8 & 255, i & 255)
    });
    let spec = format!(
        "interfaces: {{ e: {{ through: [s] }} }}\ncubes: {{ s: {{ ddosMitigator: {{ sources: [{sources}] }} }} }}"
    );
    assert!(load(&document(&spec)).is_ok());
}

#[test]
fn scripts_get_every_key() {
    let source = document("cubes: { br1: { bridge: { agingTime: 300 } } }");
    let found = parse(&source).unwrap_err();
    assert_eq!(
        found.to_json(&source.name),
        json!([{
            "severity": "error", "code": "wrong-type",
            "message": "expected a duration such as `300s`, found the number 300",
            "file": "t.yaml", "line": 5, "column": 40, "path": "spec.cubes.br1.bridge.agingTime",
            "help": "say the unit: 300s",
        }])
    );
    let keys = |value: &serde_json::Value| value[0].as_object().unwrap().len();
    let (_, warnings) = load(&document("cubes: { br1: { bridge: {} } }")).unwrap();
    assert_eq!(
        (
            warnings.count(Severity::Warning),
            keys(&warnings.to_json("t.yaml"))
        ),
        (1, 8)
    );
    assert_eq!(
        serde_json::to_value(&warnings).unwrap()[0]["path"],
        "spec.cubes.br1"
    );
}

#[test]
fn problems_know_their_path() {
    let spec = "interfaces: { eth0.1: { hook: x } }\ncubes: { a: { bridge: {} }, a: { hello: {} } }\nlinks: [[a:b, a:c], [a]]";
    let mut paths = String::new();
    for problem in &problems(spec) {
        writeln!(paths, "{} {}", problem.path, problem.code).unwrap();
    }
    assert_eq!(
        paths,
        "spec.interfaces[\"eth0.1\"].hook unknown-value\nspec.cubes.a duplicate-key\nspec.links[0] loop\nspec.links[1] wrong-type\n"
    );
}

#[test]
fn without_errors_in_structure_nothing_is_left_out() {
    let (topology, warnings) = load(&document("{}")).unwrap();
    assert!(warnings.is_empty() && topology.spec.cubes.is_empty());
    assert_eq!(topology.clone().into_inner(), *topology);
}

#[test]
fn windows_text_is_read() {
    let text =
        document("cubes: { br1: { bridge: {} } }\nlinks: [[br1:a, eth0], [br1:a, eth1]]").text;
    let text = format!("\u{feff}---\r\n{}...\r\n", text.replace('\n', "\r\n"));
    let source = Source {
        name: "t.yaml".to_owned(),
        text,
    };
    let found = load(&source).unwrap_err();
    assert_eq!(codes(&found), ["endpoint-used-twice"]);
    assert_eq!(
        found[0]
            .location
            .map(|place| (place.line, place.column, place.length)),
        Some((7, 27, 5))
    );
    assert!(
        found
            .render(&source)
            .contains("7 |   links: [[br1:a, eth0], [br1:a, eth1]]\n")
    );
}
