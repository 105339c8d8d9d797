//! The comparison, kind by kind of resource.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::{Applied, Finding, matches};
use crate::{
    address::Address,
    change::Action,
    observed::{self, Observed},
    plan,
    resource::{Bank, Content, Entries, Map, PinPath, Veth},
    rows::Rows,
};

/// All differences but those that interfaces of the host explain.
pub(super) fn compare(applied: &Applied, observed: &Observed) -> Vec<Finding> {
    let mut comparison = Comparison {
        applied,
        observed,
        findings: Vec::new(),
    };
    comparison.namespaces();
    comparison.veths();
    comparison.maps();
    comparison.programs();
    comparison.slots();
    comparison.links();
    comparison.strangers();
    comparison.findings
}

struct Comparison<'a> {
    applied: &'a Applied,
    observed: &'a Observed,
    findings: Vec<Finding>,
}

impl Comparison<'_> {
    fn namespaces(&mut self) {
        for (name, namespace) in &self.applied.lowered.desired.namespaces {
            let reason = match self.observed.namespaces.get(name) {
                Some(true) => continue,
                Some(false) => "the namespace is not ours any more",
                None => "the namespace is gone",
            };
            let after = self.applied.namespaces.get(&namespace.owner);
            self.findings.push(Finding {
                action: Action::Create,
                after: after.cloned().unwrap_or_default(),
                ..Finding::update(&namespace.owner, reason.to_owned())
            });
        }
    }

    /// True if the namespace of a pair is gone: then all that leads there is.
    fn leads_nowhere(&self, veth: &Veth) -> bool {
        let space = veth.peer.namespace.as_ref();
        space.is_some_and(|space| self.observed.namespaces.get(space) != Some(&true))
    }

    fn veths(&mut self) {
        for (name, veth) in &self.applied.lowered.desired.veths {
            if self.leads_nowhere(veth) {
                continue;
            }
            let what = match &veth.peer.namespace {
                Some(_) => format!("interface {}", veth.peer.name),
                None => format!("pair {name}"),
            };
            let update = |reason| Finding::update(&veth.owner, reason);
            let finding = match self.observed.veths.get(name) {
                None => {
                    let reason = format!("its {what} is gone");
                    update(reason).part(what, Value::Null, peer(&veth.peer))
                }
                Some(observed::Veth { peer: None, .. }) => {
                    let reason = format!("the far end of its {what} is gone or elsewhere");
                    update(reason).part(what, Value::Null, peer(&veth.peer))
                }
                Some(running) if running.peer.as_ref() == Some(&veth.peer) => {
                    if running.alias == veth.alias {
                        continue;
                    }
                    let reason = format!("the mark of its {what} was removed");
                    update(reason).part("alias", json!(running.alias), json!(veth.alias))
                }
                Some(observed::Veth {
                    peer: Some(far), ..
                }) => {
                    let (before, after) = differing(&peer(far), &peer(&veth.peer));
                    let fields: Vec<&str> = after.keys().map(String::as_str).collect();
                    let reason = format!("its {what} was changed: {}", fields.join(", "));
                    update(reason).part(what, before.into(), after.into())
                }
            };
            self.findings.push(finding);
        }
    }

    fn maps(&mut self) {
        for (path, map) in &self.applied.lowered.desired.maps {
            let update = |reason| Finding::update(&map.owner, reason);
            let Some(running) = self.observed.maps.get(path) else {
                self.findings
                    .push(update(format!("its table {} is gone", path.name())));
                continue;
            };
            if self.observed.unpinned.contains_key(path) {
                self.findings.push(update(format!(
                    "its table {} is not pinned any more",
                    path.name()
                )));
            }
            if running.shape != Some(map.shape) {
                // Another layout is an upgrade.
                if self.applied.same_build {
                    self.findings
                        .push(update(format!("its table {} is another one", path.name())));
                }
                continue;
            }
            if let (Some(wanted), Some(entries)) = (map.content.entries(), &running.entries) {
                self.entries(path, map, wanted, entries);
            }
        }
    }

    fn entries(&mut self, path: &PinPath, map: &Map, wanted: Entries<'_>, running: &Rows) {
        let ifindex = |name: &_| self.applied.ifindex(self.observed, name);
        let mut found = Vec::new();
        let mut added = Vec::new();
        // An entry of an array that is not wanted is zero.
        let is_nothing = |bytes: &[u8]| map.shape.is_array() && bytes.iter().all(|byte| *byte == 0);
        // Both are in order: one walk through them side by side.
        let mut left = running.iter().peekable();
        for (key, template) in wanted.sorted() {
            while let Some(entry) = left.next_if(|(other, _)| **other < *key) {
                added.push(entry);
            }
            let bytes = left.next_if(|(other, _)| **other == *key);
            let bytes = bytes.map(|(_, bytes)| bytes);
            if bytes.is_some_and(|bytes| matches(template, bytes, ifindex)) {
                continue;
            }
            let after = template.resolve(ifindex);
            let after = after.unwrap_or(Cow::Borrowed(template.bytes));
            found.push((key, bytes, Some(after)));
        }
        added.extend(left);
        for (key, bytes) in added.into_iter().filter(|(_, bytes)| !is_nothing(bytes)) {
            found.push((Cow::Borrowed(key), Some(bytes), None));
        }
        for (key, before, after) in found {
            self.findings
                .push(self.entry(path, map, &key, before, after.as_deref()));
        }
    }

    fn entry(
        &self,
        path: &PinPath,
        map: &Map,
        key: &[u8],
        before: Option<&[u8]>,
        after: Option<&[u8]>,
    ) -> Finding {
        let table = path.name();
        let (action, what) = match (&before, &after) {
            (_, None) => (Action::Delete, "was added to the kernel by others"),
            (None, Some(_)) => (Action::Create, "is missing in the kernel"),
            (Some(_), Some(_)) => (Action::Update, "was changed in the kernel"),
        };
        let value = |bytes: Option<&[u8]>| {
            bytes.map_or(Value::Null, |bytes| self.decoded(map, table, bytes))
        };
        let (before, after) = (value(before), value(after));
        let reason = format!("the entry {what} (table {table})");
        match self.name_of(map, table, key) {
            Some(address) => Finding {
                address,
                action,
                reason,
                part: String::new(),
                before,
                after,
            },
            // An entry without a name is a part of its object.
            None => {
                let part = format!("{table}[{}]", hex(key));
                Finding::update(&map.owner, reason).part(part, before, after)
            }
        }
    }

    /// How people call an entry: as its driver says, or after its port.
    fn name_of(&self, map: &Map, table: &str, key: &[u8]) -> Option<Address> {
        let owner = &map.owner;
        let describer = self.applied.lowered.desired.describers.get(owner);
        if let Some(name) = describer.and_then(|describer| describer.describe(table, key)) {
            return Some(owner.below(&name));
        }
        let place = u32::from_ne_bytes(key.try_into().ok()?);
        let index = match (table, &map.content) {
            ("ports", Content::Banked(_)) => place / Bank::ALL.len() as u32,
            ("router_ports", _) => place,
            _ => return None,
        };
        let cube = owner.as_str().strip_prefix("cube/")?.parse().ok()?;
        let mut ports = self.applied.lowered.allocation.ports(&cube);
        let (port, _) = ports.find(|(_, number)| *number == index)?;
        Some(owner.entry("ports", port))
    }

    fn decoded(&self, map: &Map, table: &str, value: &[u8]) -> Value {
        let describer = self.applied.lowered.desired.describers.get(&map.owner);
        let decoded = describer.and_then(|describer| describer.value(table, value));
        decoded.unwrap_or_else(|| hex(value).into())
    }

    fn programs(&mut self) {
        for (path, program) in &self.applied.lowered.desired.programs {
            let running = self.observed.programs.get(path);
            let expected = program.fingerprint(
                |name| self.applied.ifindex(self.observed, name),
                |map| {
                    let running = self.observed.maps.get(map)?;
                    let shape = self.applied.lowered.desired.maps.get(map)?.shape;
                    (running.shape == Some(shape)).then_some(running.id)
                },
            );
            let reason = match (running, &expected) {
                (None, _) => format!("its program {path} is gone"),
                (Some(running), Some(expected))
                    if self.applied.same_build && running.fingerprint != *expected =>
                {
                    format!("its program {path} is another one")
                }
                _ => continue,
            };
            let before = running.map_or(
                Value::Null,
                |running| json!({ "id": running.id, "name": running.fingerprint }),
            );
            let after = expected.map_or(Value::Null, |name| json!({ "name": name }));
            self.findings
                .push(Finding::update(&program.owner, reason).part(path.as_str(), before, after));
        }
    }

    fn slots(&mut self) {
        for (slot, program) in &self.applied.lowered.desired.slots {
            let (Some(expected), true) = (
                self.observed.programs.get(program),
                self.observed.maps.contains_key(&slot.map),
            ) else {
                continue;
            };
            let banks = self.observed.slots.get(slot).copied().unwrap_or_default();
            let Some(running) = banks.into_iter().find(|id| *id != Some(expected.id)) else {
                continue;
            };
            let owner = self.applied.lowered.desired.slot_owners.get(slot);
            let what = match running {
                None => "is empty",
                Some(_) => "leads to another program",
            };
            let finding = Finding::update(
                owner.unwrap_or(&Address::topology()),
                format!("slot {slot} {what}"),
            );
            let before = running.map_or(Value::Null, |id| self.program(id));
            self.findings
                .push(finding.part(slot.to_string(), before, program.as_str().into()));
        }
    }

    /// A program by its id: where it is pinned, if it is ours.
    fn program(&self, id: u32) -> Value {
        match self.observed.program_by_id(id) {
            Some(path) => path.as_str().into(),
            None => format!("program {id}, not ours").into(),
        }
    }

    fn links(&mut self) {
        for (path, attachment) in &self.applied.lowered.desired.links {
            // Without the interface nothing can be attached: that is said of the interface.
            let Some(ifindex) = self.applied.ifindex(self.observed, &attachment.interface) else {
                continue;
            };
            let (interface, point) = (&attachment.interface, attachment.point.name());
            let expected = self.observed.programs.get(&attachment.program);
            let running = self.observed.links.get(path);
            let reason = match running {
                None => format!("nothing is attached to {interface} at {point}: its link is gone"),
                Some(link) if link.ifindex == 0 => {
                    format!("nothing is attached to {interface} at {point}: its link was detached")
                }
                Some(link) if link.ifindex != ifindex || link.point != Some(attachment.point) => {
                    format!("its link is not on {interface} at {point}")
                }
                Some(link) if expected.is_some_and(|expected| expected.id != link.program) => {
                    format!("another program is attached to {interface} at {point}")
                }
                Some(_) => continue,
            };
            let before = running
                .filter(|link| link.ifindex != 0)
                .map_or(Value::Null, |link| self.program(link.program));
            self.findings
                .push(Finding::update(&attachment.owner, reason).part(
                    format!("{interface} {point}"),
                    before,
                    attachment.program.as_str().into(),
                ));
        }
    }

    /// What is in our place, or has our mark, and was not applied.
    fn strangers(&mut self) {
        let desired = &self.applied.lowered.desired;
        let observed = self.observed;
        if self.applied.same_build && self.applied.recorded {
            let maps = observed
                .maps
                .keys()
                .filter(|path| !desired.maps.contains_key(*path));
            let programs = observed
                .programs
                .keys()
                .filter(|path| !desired.programs.contains_key(*path));
            let links = observed
                .links
                .keys()
                .filter(|path| !desired.links.contains_key(*path));
            for path in maps.chain(programs).chain(links) {
                let reason = format!("{path} was pinned by others");
                let finding = Finding::update(&plan::owner_of(path), reason);
                self.findings
                    .push(finding.part(path.as_str(), "pinned".into(), Value::Null));
            }
        }
        for (name, veth) in &observed.veths {
            if !desired.veths.contains_key(name) {
                let reason =
                    format!("interface {name} carries the mark of this topology, but is not of it");
                let finding = Finding::update(&Address::topology(), reason);
                self.findings
                    .push(finding.part(name.as_str(), json!(veth.alias), Value::Null));
            }
        }
        for (name, ours) in &observed.namespaces {
            if *ours && !desired.namespaces.contains_key(name) {
                let reason = "the namespace carries the mark of this topology, but is not of it";
                self.findings.push(Finding {
                    action: Action::Delete,
                    ..Finding::update(&Address::namespace(name), reason.to_owned())
                });
            }
        }
    }
}

/// The far end of a pair, field by field.
fn peer(peer: &crate::resource::VethPeer) -> Value {
    let address = |(address, length): &(std::net::IpAddr, u8)| format!("{address}/{length}");
    let addresses: Vec<String> = peer.addresses.iter().map(address).collect();
    let routes: Vec<String> = peer
        .routes
        .iter()
        .map(|(to, length, via)| format!("{to}/{length} via {via}"))
        .collect();
    json!({
        "namespace": peer.namespace,
        "name": peer.name,
        "mac": peer.mac,
        "mtu": peer.mtu,
        "addresses": addresses,
        "routes": routes,
        "up": peer.up,
        "gro": peer.gro,
    })
}

/// The fields of two objects that differ, of both.
fn differing(before: &Value, after: &Value) -> (Fields, Fields) {
    let fields = after.as_object().into_iter().flatten();
    fields
        .filter(|(field, value)| before[field.as_str()] != **value)
        .map(|(field, value)| {
            let before = before[field.as_str()].clone();
            ((field.clone(), before), (field.clone(), value.clone()))
        })
        .unzip()
}

type Fields = serde_json::Map<String, Value>;

/// Bytes as people write them.
fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}")
}
