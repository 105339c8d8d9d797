//! Rules on interfaces, of the host and of namespaces.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::addr::InterfaceAddress;
use crate::diagnostic::Diagnostic;
use crate::name::Name;
use crate::path::Path;
use crate::topology::{Hook, Namespace, Topology};
use crate::validate::links::Wiring;
use crate::validate::{Checker, ConnectedNetworks, RouteCheck};

/// Every namespace has its own already.
const LOOPBACK: &str = "lo";

pub(super) fn check(topology: &Topology, wiring: &Wiring<'_>, checker: &mut Checker<'_>) {
    let spec = Path::of(&["spec"]);
    for (name, interface) in &topology.spec.interfaces {
        let path = spec.key("interfaces").key(name.as_str());
        if interface.through.is_empty() && !wiring.host.contains(name) {
            let message = format!(
                "nothing happens on `{name}`: no link names it, and its `through` list is empty"
            );
            checker.absent(
                &[&spec.key("links"), &path],
                Diagnostic::warning("unused-interface", &path, message),
            );
        }
        if interface.hook == Hook::XdpGeneric {
            let message = "generic XDP is slower than tc; it is meant for testing";
            checker.report(Diagnostic::warning(
                "generic-xdp",
                &path.key("hook"),
                message,
            ));
        }
    }
    for (name, namespace) in &topology.spec.namespaces {
        let path = spec.key("namespaces").key(name.as_str()).key("interfaces");
        for interface in namespace.interfaces.keys() {
            let path = path.key(interface.as_str());
            if interface.as_str() == LOOPBACK {
                let message = "`lo` is the loopback interface, which every namespace has already";
                checker.report(Diagnostic::error("reserved-interface", &path, message));
            } else if !wiring.namespaced.contains(&(name, interface)) {
                let message =
                    format!("no link names `{name}/{interface}`: it is connected to nothing");
                checker.absent(
                    &[&spec.key("links")],
                    Diagnostic::warning("unused-interface", &path, message),
                );
            }
        }
        check_namespace(name, namespace, &path, checker);
    }
}

fn check_namespace(name: &Name, namespace: &Namespace, path: &Path, checker: &mut Checker<'_>) {
    let mut own: BTreeSet<IpAddr> = BTreeSet::new();
    for (interface, settings) in &namespace.interfaces {
        let path = path.key(interface.as_str());
        checker.unicast(settings.mac, || path.key("mac"));
        for (index, address) in settings.addresses.iter().enumerate() {
            let place = || path.key("addresses").index(index);
            checker.interface_address(address, place);
            if !own.insert(address.address()) {
                let message = format!(
                    "{} is an address of namespace `{name}` already",
                    address.address()
                );
                checker.report(Diagnostic::error("duplicate-address", &place(), message));
            }
        }
    }
    let mut targets = BTreeMap::new();
    for (interface, settings) in &namespace.interfaces {
        let path = path.key(interface.as_str());
        let networks = ConnectedNetworks::new(settings.addresses.iter());
        let addresses: BTreeSet<IpAddr> = settings
            .addresses
            .iter()
            .map(InterfaceAddress::address)
            .collect();
        let owner = format!("`{name}/{interface}`");
        let routes = RouteCheck {
            networks: &networks,
            own: &addresses,
            depends_on: &path,
            owner: &owner,
        };
        for (index, route) in settings.routes.iter().enumerate() {
            let path = path.key("routes").index(index);
            routes.check(checker, route.to, route.via, || path.clone());
            let target = route.to.prefix(route.via);
            let first = targets.entry(target).or_insert_with(|| path.clone());
            if *first != path {
                let other = checker.refer_to(first);
                let message = format!("namespace `{name}` has a route to {} already", route.to);
                let diagnostic = Diagnostic::error("duplicate-route", &path.key("to"), message);
                checker.report(diagnostic.help(format!("the other one is {other}")));
            }
        }
    }
}
