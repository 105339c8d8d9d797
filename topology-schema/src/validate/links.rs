//! Rules on links and their endpoints.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::Diagnostic;
use crate::endpoint::Endpoint;
use crate::name::{InterfaceName, Name};
use crate::path::Path;
use crate::topology::{Link, Topology};
use crate::validate::Checker;

/// What links name.
#[derive(Default)]
pub(super) struct Wiring<'t> {
    /// Linked ports by cube.
    pub(super) ports: BTreeMap<&'t Name, BTreeSet<&'t Name>>,
    /// Linked interfaces of namespaces.
    pub(super) namespaced: BTreeSet<(&'t Name, &'t InterfaceName)>,
    /// Linked interfaces of the host.
    pub(super) host: BTreeSet<&'t InterfaceName>,
}

pub(super) fn check<'t>(topology: &'t Topology, checker: &mut Checker<'_>) -> Wiring<'t> {
    let links = Path::of(&["spec", "links"]);
    let mut wiring = Wiring::default();
    let mut used: BTreeMap<&Endpoint, usize> = BTreeMap::new();
    for (index, link) in topology.spec.links.iter().enumerate() {
        let path = links.index(index);
        check_pair(link, checker, &path);
        for (side, endpoint) in link.endpoints().into_iter().enumerate() {
            let path = path.index(side);
            let first = *used.entry(endpoint).or_insert(index);
            if first != index {
                let other = checker.refer_to(&links.index(first));
                let message = format!("`{endpoint}` is in a link already");
                let diagnostic = Diagnostic::error("endpoint-used-twice", &path, message);
                checker.report(diagnostic.help(format!(
                    "the other link is {other}; a port or an interface has at most one"
                )));
            }
            check_endpoint(topology, endpoint, checker, &path);
            match endpoint {
                Endpoint::Port { cube, port } => {
                    wiring.ports.entry(cube).or_default().insert(port);
                }
                Endpoint::Namespace {
                    namespace,
                    interface,
                } => {
                    wiring.namespaced.insert((namespace, interface));
                }
                Endpoint::Host(interface) => {
                    wiring.host.insert(interface);
                }
            }
        }
    }
    wiring
}

fn check_pair(link: &Link, checker: &mut Checker<'_>, path: &Path) {
    match link {
        Link(a, b) if a == b => {
            checker.report(Diagnostic::error(
                "linked-to-itself",
                path,
                format!("`{a}` is linked to itself"),
            ));
        }
        Link(Endpoint::Port { cube: a, .. }, Endpoint::Port { cube: b, .. }) if a == b => {
            let message = format!("both ends are ports of `{a}`: packets may run in circles");
            checker.report(Diagnostic::warning("loop", path, message));
        }
        Link(Endpoint::Port { .. }, _) | Link(_, Endpoint::Port { .. }) => {}
        Link(a, b) => {
            let diagnostic = Diagnostic::error(
                "link-without-cube",
                path,
                format!("neither `{a}` nor `{b}` is a port of a cube"),
            );
            checker
                .report(diagnostic.help("link each of them to a port, for instance of a bridge"));
        }
    }
}

fn check_endpoint(
    topology: &Topology,
    endpoint: &Endpoint,
    checker: &mut Checker<'_>,
    path: &Path,
) {
    match endpoint {
        Endpoint::Port { cube, port } => check_port(topology, cube, port, checker, path),
        Endpoint::Namespace {
            namespace,
            interface,
        } => check_namespaced(topology, namespace, interface, checker, path),
        Endpoint::Host(interface) => check_host(topology, interface, checker, path),
    }
}

fn check_port(
    topology: &Topology,
    name: &Name,
    port: &Name,
    checker: &mut Checker<'_>,
    path: &Path,
) {
    let spec = &topology.spec;
    let owner = Path::of(&["spec", "cubes"]).key(name.as_str());
    let Some(cube) = spec.cubes.get(name) else {
        let help = if spec.namespaces.contains_key(name) {
            Some(format!("`{name}` is a namespace: write `{name}/{port}`"))
        } else {
            checker
                .closest(name.as_str(), spec.cubes.keys().map(Name::as_str))
                .map(|near| format!("did you mean `{near}:{port}`?"))
        };
        let diagnostic =
            Diagnostic::error("unknown-cube", path, format!("there is no cube `{name}`"))
                .maybe_help(help);
        return checker.absent(&[&owner], diagnostic);
    };
    if cube.kind().is_transparent() {
        let message = format!(
            "`{name}` is a {}, which is transparent and has no ports",
            cube.kind()
        );
        let diagnostic = Diagnostic::error("transparent-in-link", path, message);
        checker
            .report(diagnostic.help("name it in the `through` list of a port or of an interface"));
    } else if cube.kind().declares_ports() && !cube.configures_port(port) {
        let help = match checker.closest(port.as_str(), cube.configured_ports().map(Name::as_str)) {
            Some(near) => format!("did you mean `{name}:{near}`?"),
            None => format!("declare it under `ports:` of `{name}`"),
        };
        let message = format!("{} `{name}` has no port `{port}`", cube.kind());
        checker.absent(
            &[&owner],
            Diagnostic::error("unknown-port", path, message).help(help),
        );
    }
}

fn check_namespaced(
    topology: &Topology,
    name: &Name,
    interface: &InterfaceName,
    checker: &mut Checker<'_>,
    path: &Path,
) {
    let spec = &topology.spec;
    let owner = Path::of(&["spec", "namespaces"]).key(name.as_str());
    let Some(namespace) = spec.namespaces.get(name) else {
        let help = if spec.cubes.contains_key(name) {
            Some(format!("`{name}` is a cube: write `{name}:{interface}`"))
        } else {
            checker
                .closest(name.as_str(), spec.namespaces.keys().map(Name::as_str))
                .map(|near| format!("did you mean `{near}/{interface}`?"))
        };
        let diagnostic = Diagnostic::error(
            "unknown-namespace",
            path,
            format!("there is no namespace `{name}`"),
        );
        return checker.absent(&[&owner], diagnostic.maybe_help(help));
    };
    if !namespace.interfaces.contains_key(interface) {
        let known = namespace.interfaces.keys().map(InterfaceName::as_str);
        let help = match checker.closest(interface.as_str(), known) {
            Some(near) => format!("did you mean `{name}/{near}`?"),
            None => format!("declare it under `interfaces:` of `{name}`"),
        };
        let message = format!("namespace `{name}` has no interface `{interface}`");
        checker.absent(
            &[&owner],
            Diagnostic::error("unknown-interface", path, message).help(help),
        );
    }
}

/// An interface of the host need not exist yet, but its name may betray that something else was meant.
fn check_host(
    topology: &Topology,
    interface: &InterfaceName,
    checker: &mut Checker<'_>,
    path: &Path,
) {
    let spec = &topology.spec;
    let (what, instead) = if spec.cubes.contains_key(interface.as_str()) {
        ("cube", format!("{interface}:p1"))
    } else if spec.namespaces.contains_key(interface.as_str()) {
        ("namespace", format!("{interface}/eth0"))
    } else {
        return;
    };
    let message = format!(
        "`{interface}` means an interface of the host here, but a {what} has that name as well"
    );
    let diagnostic = Diagnostic::warning("ambiguous-endpoint", path, message);
    checker.report(diagnostic.help(format!("if the {what} is meant, write it like `{instead}`")));
}
