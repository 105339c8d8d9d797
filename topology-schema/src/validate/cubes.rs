//! Rules on cubes: those of their kind, and whether anything uses them.

use std::collections::BTreeSet;

use crate::cube::MAX_PORTS;
use crate::diagnostic::Diagnostic;
use crate::name::Name;
use crate::path::Path;
use crate::topology::Topology;
use crate::validate::Checker;
use crate::validate::links::Wiring;

/// What the rules of a kind may know about the world around their cube.
pub(crate) struct CubeContext<'a> {
    /// The name of the cube.
    pub(crate) name: &'a Name,
    /// Where its settings are: `spec.cubes.br1.bridge`.
    pub(crate) path: Path,
    ports: BTreeSet<&'a Name>,
}

impl<'a> CubeContext<'a> {
    /// Where the settings of a port are.
    pub(crate) fn port_path(&self, port: &Name) -> Path {
        self.path.key("ports").key(port.as_str())
    }

    /// All ports that exist: those that links name and those that are configured.
    pub(crate) fn ports(&self) -> &BTreeSet<&'a Name> {
        &self.ports
    }

    /// Reports a port that does not exist.
    pub(crate) fn require_port(
        &self,
        checker: &mut Checker<'_>,
        port: &Name,
        path: impl FnOnce() -> Path,
    ) {
        if self.ports.contains(port) {
            return;
        }
        let help = self.closest(checker, port);
        let message = format!("`{}` has no port `{port}`", self.name);
        let diagnostic = Diagnostic::error("unknown-port", &path(), message).maybe_help(help);
        checker.absent(&[&self.path, &Path::of(&["spec", "links"])], diagnostic);
    }

    /// Warns of a port that nothing else names.
    pub(crate) fn expect_port(
        &self,
        checker: &mut Checker<'_>,
        port: &Name,
        path: impl FnOnce() -> Path,
    ) {
        if self.ports.contains(port) {
            return;
        }
        let help = self.closest(checker, port);
        let message = format!("no link names port `{port}` of `{}`", self.name);
        let diagnostic =
            Diagnostic::warning("port-without-link", &path(), message).maybe_help(help);
        checker.absent(&[&self.path, &Path::of(&["spec", "links"])], diagnostic);
    }

    fn closest(&self, checker: &mut Checker<'_>, port: &Name) -> Option<String> {
        let ports = self.ports.iter().map(|port| port.as_str());
        checker
            .closest(port.as_str(), ports)
            .map(|near| format!("did you mean `{near}`?"))
    }
}

pub(super) fn check(topology: &Topology, wiring: &Wiring<'_>, checker: &mut Checker<'_>) {
    let spec = Path::of(&["spec"]);
    let none = BTreeSet::new();
    let stacked = stacked(topology);
    for (name, cube) in &topology.spec.cubes {
        let place = spec.key("cubes").key(name.as_str());
        let linked = wiring.ports.get(name).unwrap_or(&none);
        let context = CubeContext {
            name,
            path: place.key(cube.kind().name()),
            ports: linked
                .iter()
                .copied()
                .chain(cube.configured_ports())
                .collect(),
        };
        cube.check(checker, &context);
        checker.limit("ports", context.ports().len(), MAX_PORTS, &context.path);
        let (used, how) = if cube.kind().is_transparent() {
            (stacked.contains(name), "no `through` list names it")
        } else {
            (!linked.is_empty(), "no link names one of its ports")
        };
        if !used {
            let message = format!("`{name}` is not used: {how}");
            checker.absent(
                &[&spec],
                Diagnostic::warning("unused-cube", &place, message),
            );
            continue;
        }
        for port in cube
            .configured_ports()
            .filter(|port| !linked.contains(port))
        {
            let message =
                format!("port `{port}` of `{name}` has no link and drops what is sent to it");
            let diagnostic =
                Diagnostic::warning("port-without-link", &context.port_path(port), message);
            checker.absent(&[&spec.key("links")], diagnostic);
        }
    }
}

/// The cubes that some `through` list names.
fn stacked(topology: &Topology) -> BTreeSet<&Name> {
    let on_interfaces = topology
        .spec
        .interfaces
        .values()
        .flat_map(|interface| &interface.through);
    let cubes = topology.spec.cubes.values();
    let on_ports =
        cubes.flat_map(|cube| cube.configured_ports().flat_map(|port| cube.through(port)));
    on_interfaces.chain(on_ports).collect()
}
