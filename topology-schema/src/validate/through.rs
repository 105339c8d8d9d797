//! Rules on stacks of transparent cubes.

use std::collections::BTreeSet;

use crate::diagnostic::Diagnostic;
use crate::name::Name;
use crate::path::Path;
use crate::topology::Topology;
use crate::validate::Checker;

/// Most transparent cubes in one stack. The kernel ends a packet's way after 33 programs, and a stack that changes its
/// order needs room for the old and the new one.
pub(crate) const MAX_STACK: usize = 8;

pub(super) fn check(topology: &Topology, checker: &mut Checker<'_>) {
    let spec = Path::of(&["spec"]);
    for (name, interface) in &topology.spec.interfaces {
        let path = || spec.key("interfaces").key(name.as_str()).key("through");
        check_stack(topology, &interface.through, checker, path);
    }
    for (name, cube) in &topology.spec.cubes {
        for port in cube.configured_ports() {
            let path = || {
                let cube = spec.key("cubes").key(name.as_str()).key(cube.kind().name());
                cube.key("ports").key(port.as_str()).key("through")
            };
            check_stack(topology, cube.through(port), checker, path);
        }
    }
}

fn check_stack(
    topology: &Topology,
    stack: &[Name],
    checker: &mut Checker<'_>,
    path: impl Fn() -> Path,
) {
    let cubes = &topology.spec.cubes;
    let mut seen = BTreeSet::new();
    checker.limit("cubes in a stack", stack.len(), MAX_STACK, &path());
    for (index, name) in stack.iter().enumerate() {
        if !seen.insert(name) {
            let message = format!("`{name}` is in this list already");
            let diagnostic = Diagnostic::error("twice-in-through", &path().index(index), message);
            checker.report(
                diagnostic.help("the same cube may sit on several ports, but once on each"),
            );
            continue;
        }
        match cubes.get(name).map(|cube| cube.kind()) {
            Some(kind) if kind.is_transparent() => {}
            Some(kind) => {
                let message = format!("`{name}` is a {kind}, which is not transparent");
                let diagnostic =
                    Diagnostic::error("standard-in-through", &path().index(index), message);
                checker.report(
                    diagnostic
                        .help("connect it with `links`; a `through` list holds transparent cubes"),
                );
            }
            None => {
                let near = checker
                    .closest(name.as_str(), cubes.keys().map(Name::as_str))
                    .map(|near| format!("did you mean `{near}`?"));
                let message = format!("there is no cube `{name}`");
                let diagnostic = Diagnostic::error("unknown-cube", &path().index(index), message)
                    .maybe_help(near);
                checker.absent(
                    &[&Path::of(&["spec", "cubes"]).key(name.as_str())],
                    diagnostic,
                );
            }
        }
    }
}
