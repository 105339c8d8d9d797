//! Hostile texts are refused, and quickly; a large honest one is read.

use std::fmt::Write as _;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use topology_schema::{Diagnostics, MAX_BYTES, Source, load};

/// How long a refusal may take, unoptimised.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is slow by itself is slow each time.
const ATTEMPTS: usize = 3;

/// This thread's time on a CPU: the machine may be busy with other tests.
fn worked() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .expect("every Linux has this clock")
        .into()
}

fn refuse(what: &str, text: String) -> Diagnostics {
    let source = Source {
        name: what.to_owned(),
        text,
    };
    let mut fastest = Duration::MAX;
    for _ in 0..ATTEMPTS {
        let start = worked();
        let diagnostics = load(&source).expect_err(what);
        fastest = fastest.min(worked() - start);
        if fastest < PATIENCE {
            let rendered = diagnostics.render(&source);
            assert!(
                rendered.len() < 1 << 20,
                "{what} gives {} bytes of diagnostics",
                rendered.len()
            );
            return diagnostics;
        }
    }
    panic!("{what} took {fastest:?}");
}

const MIB: usize = 1 << 20;

#[test]
fn deep_nesting() {
    for size in [7 * MIB, MAX_BYTES + MIB] {
        refuse("flow lists", "[".repeat(size));
        refuse("flow mappings", "{a: ".repeat(size / 4));
        refuse("quoted flow mappings", "{\"a\": ".repeat(size / 6));
        refuse("block lists", "- ".repeat(size / 2));
        refuse("explicit keys", "? ".repeat(size / 2));
        refuse(
            "below the spec",
            format!("spec:\n  cubes: {}", "[".repeat(size)),
        );
    }
    let mut blocks = String::new();
    for level in 0..2000 {
        writeln!(blocks, "{:level$}a:", "").unwrap();
    }
    let diagnostics = refuse("block mappings", blocks);
    assert_eq!(diagnostics[0].code, "too-deep");
}

#[test]
fn alias_bombs() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..20 {
        let last = level - 1;
        writeln!(
            laughs,
            "a{level}: &a{level} [{}]",
            vec![format!("*a{last}"); 10].join(", ")
        )
        .unwrap();
    }
    let diagnostics = refuse("billion laughs", laughs);
    assert_eq!(diagnostics[0].code, "too-many-values");

    let mut many = String::from("a: &a x\nb:\n");
    many.push_str(&"  - *a\n".repeat(100_000));
    assert_eq!(refuse("many aliases", many)[0].code, "too-many-aliases");

    let mut deep = String::from("a0: &a0 []\n");
    for level in 1..100 {
        writeln!(deep, "a{level}: &a{level} [*a{}]", level - 1).unwrap();
    }
    assert_eq!(refuse("deep aliases", deep)[0].code, "too-deep");

    let big = vec!["x"; 4000].join(", ");
    let quadratic = format!("a: &a [{big}]\nb: [{}]", vec!["*a"; 900].join(", "));
    assert_eq!(refuse("quadratic", quadratic)[0].code, "too-many-values");
}

#[test]
fn junk() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let bytes: Vec<u8> = (0..4 * MIB).map(|_| next().to_le_bytes()[0]).collect();
    refuse("binary", String::from_utf8_lossy(&bytes).into_owned());
    let ascii: String = (0..4 * MIB)
        .map(|_| char::from(next().to_le_bytes()[0] & 0x7f))
        .collect();
    refuse("ascii", ascii);
    refuse("zeros", "\0".repeat(4 * MIB));
    refuse("quotes", "\"".repeat(4 * MIB));
    refuse("one long word", "a".repeat(4 * MIB));
    refuse("one long line of keys", "a: ".repeat(MIB));
    refuse("anchors", "&a ".repeat(MIB));
    refuse("tags", "! ".repeat(MIB));
    refuse("comments", "# x\n".repeat(MIB));
    refuse("blanks", " ".repeat(7 * MIB));
    refuse("line feeds", "\n".repeat(7 * MIB));
    refuse("commas", format!("[{}", ",".repeat(4 * MIB)));
    refuse("directives", "%YAML 1.2\n".repeat(100_000));
    refuse("documents", "---\n".repeat(MIB));
}

#[test]
fn many_problems_take_bounded_time() {
    let head = "apiVersion: pcn.dev/v1alpha1\nkind: Topology\nmetadata: { name: t }\nspec:\n";
    let wrong = vec!["x"; 20_000].join(", ");
    let text = format!("{head}  cubes: {{ s: {{ ddosMitigator: {{ sources: [{wrong}] }} }} }}\n");
    let source = Source {
        name: "wrong".to_owned(),
        text,
    };
    let diagnostics = load(&source).unwrap_err();
    assert!(
        (100..1000).contains(&diagnostics.len()),
        "{}",
        diagnostics.len()
    );

    let unknown: String = (0..5000)
        .map(|i| format!("    - [nothing{i}:a, e{i}]\n"))
        .collect();
    let cubes: String = (0..5000)
        .map(|i| format!("    some{i}: {{ bridge: {{}} }}\n"))
        .collect();
    let text = format!("{head}  cubes:\n{cubes}  links:\n{unknown}");
    let start = worked();
    let diagnostics = load(&Source {
        name: "unknown".to_owned(),
        text,
    })
    .unwrap_err();
    assert_eq!(diagnostics.len(), 10_000);
    assert!(
        (worked() - start) < Duration::from_secs(20),
        "{:?}",
        (worked() - start)
    );
}

#[test]
fn ten_thousand_cubes() {
    let mut text = String::from(
        "apiVersion: pcn.dev/v1alpha1\nkind: Topology\nmetadata: { name: t }\nspec:\n  cubes:\n",
    );
    for i in 0..10_000 {
        writeln!(
            text,
            "    b{i}: {{ bridge: {{ ports: {{ p: {{ isolated: true }} }} }} }}"
        )
        .unwrap();
    }
    text.push_str("  links:\n");
    for i in 0..10_000 {
        writeln!(text, "    - [b{i}:p, e{i}]").unwrap();
    }
    let source = Source {
        name: "large".to_owned(),
        text,
    };
    let (topology, warnings) = load(&source)
        .map_err(|diagnostics| diagnostics.render(&source))
        .unwrap();
    assert_eq!((topology.spec.cubes.len(), warnings.len()), (10_000, 0));
}

/// What each rule compares must not grow with the square of the text.
#[test]
fn rules_take_bounded_time() {
    let lines =
        |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<String>();
    let address = |i: usize| format!("10.{}.{}.{}", i >> 16, i >> 8 & 255, i & 255);
    let texts = [
        ("links to undeclared ports", {
            let ports = lines(20_000, &|i| {
                format!("          p{i}: {{ addresses: [{}/32] }}\n", address(i))
            });
            let links = lines(40_000, &|i| format!("    - [r:x{i}, e{i}]\n"));
            format!("  cubes:\n    r:\n      router:\n        ports:\n{ports}  links:\n{links}")
        }),
        ("one network on every port", {
            let ports = lines(40_000, &|i| {
                format!("          p{i}: {{ addresses: [{}/8] }}\n", address(i + 1))
            });
            format!("  cubes:\n    r:\n      router:\n        ports:\n{ports}")
        }),
        ("one network on one port", {
            let addresses = lines(60_000, &|i| format!("{}/8, ", address(i + 1)));
            let neighbors = lines(40_000, &|i| {
                format!(
                    "        - {{ address: 10.9.{}, mac: \"02:00:00:00:00:01\", port: p }}\n",
                    &address(i)[5..]
                )
            });
            let port = format!("        ports: {{ p: {{ addresses: [{addresses}] }} }}\n");
            format!("  cubes:\n    r:\n      router:\n{port}        neighbors:\n{neighbors}")
        }),
        ("entries behind unknown ports", {
            let ports = lines(30_000, &|i| format!("          p{i}: {{}}\n"));
            let entries = lines(60_000, &|i| {
                format!(
                    "        - {{ mac: \"02:00:00:{:02x}:{:02x}:{:02x}\", port: x{i} }}\n",
                    i >> 16,
                    i >> 8 & 255,
                    i & 255
                )
            });
            format!(
                "  cubes:\n    b:\n      bridge:\n        ports:\n{ports}        fdb:\n{entries}"
            )
        }),
        (
            "unknown fields",
            lines(200_000, &|i| format!("  field{i}: 1\n")),
        ),
        ("unknown fields of a cube", {
            let fields = lines(200_000, &|i| format!("        field{i}: 1\n"));
            format!("  cubes:\n    b:\n      bridge:\n{fields}")
        }),
        ("the same key", "  cubes: {}\n".repeat(200_000)),
        (
            "the same link",
            format!("  links: [{}]", "[a:b, a:b], ".repeat(200_000)),
        ),
    ];
    for (what, spec) in texts {
        let head = "apiVersion: pcn.dev/v1alpha1\nkind: Topology\nmetadata: { name: t }\nspec:\n";
        let source = Source {
            name: what.to_owned(),
            text: format!("{head}{spec}"),
        };
        let start = worked();
        let diagnostics = load(&source).expect_err(what);
        let read = worked() - start;
        assert!(
            diagnostics.has_errors() && diagnostics.len() <= 20_002,
            "{what}: {}",
            diagnostics.len()
        );
        assert!(!diagnostics.render(&source).is_empty());
        assert!(
            (worked() - start) < Duration::from_secs(15),
            "{what}: {read:?}, {:?}",
            (worked() - start)
        );
    }
}
