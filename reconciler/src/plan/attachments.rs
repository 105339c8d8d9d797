//! Attachments: where packets come into the topology.

use topology_schema::InterfaceName;

use super::{
    Disruption, Op,
    banks::Switch,
    owner_of,
    planner::{Order, Planner},
};
use crate::{
    observed,
    resource::{AttachPoint, Attachment, Bank, PinPath, Program, Veth},
    wiring,
};

impl Planner<'_> {
    /// Plans all links. When the banks are switched, links whose entry program moves first get
    /// one that leads to both ends.
    pub(super) fn links(&mut self, switch: Switch) {
        for (path, attachment) in &self.desired.links {
            let mut new = attachment.clone();
            new.program = self.place(&attachment.program);
            let ifindex = self.ifindex(&attachment.interface);
            match self.observed.links.get(path) {
                Some(link)
                    if link.point == Some(attachment.point) && ifindex == Some(link.ifindex) =>
                {
                    self.exchange(path, link, attachment, switch);
                }
                Some(_) => {
                    // Its interface was made anew, or it is to be attached elsewhere.
                    let detach = Op::Detach(path.clone());
                    self.step(
                        Order::Detach,
                        &attachment.owner,
                        detach,
                        None,
                        Disruption::PacketsLost,
                    );
                    self.attach(Order::Links, path, new);
                }
                // What the switch leads through an interface of ours must find it attached.
                None if self.is_ours(&attachment.interface) => {
                    self.attach(Order::Attach, path, new);
                }
                None => self.attach(Order::Links, path, new),
            }
        }
        for (path, link) in &self.observed.links {
            if !self.desired.links.contains_key(path) {
                let undo = self.reattach(path, link);
                let order = self.detach_order(link, switch);
                let disruption = if self.changes_mode(link) {
                    Disruption::PacketsLost
                } else {
                    Disruption::None
                };
                self.step(
                    order,
                    &owner_of(path),
                    Op::Detach(path.clone()),
                    undo.filter(|_| order != Order::Retire),
                    disruption,
                );
            }
        }
    }

    /// Exchanges the program of a link that stays, if it is not the right one.
    fn exchange(
        &mut self,
        path: &PinPath,
        link: &observed::Link,
        attachment: &Attachment,
        switch: Switch,
    ) {
        let program = &attachment.program;
        let current = self
            .observed
            .programs
            .get(program)
            .map(|program| program.id);
        if current == Some(link.program) && !self.replaced.contains(program) {
            return;
        }
        let old = self.observed.program_by_id(link.program);
        let update = |program: PinPath, expected| Op::UpdateLink {
            link: path.clone(),
            program,
            expected,
        };
        let mut expected = link.program;
        let mut undo = old.map(|old| update(old.clone(), 0));
        let owner = &attachment.owner;
        if let Switch::To(bank) = switch
            && let Some(transitional) = self.transitional(program, bank.other())
        {
            let place = program.transitional();
            let load = Op::LoadProgram(place.clone(), transitional);
            let unpin = Op::Unpin(place.clone());
            let to_both = update(place.clone(), expected);
            let free = Some(unpin.clone());
            self.step(Order::Programs, owner, load, free, Disruption::None);
            self.step(Order::Transit, owner, to_both, undo, Disruption::None);
            self.step(Order::Pins, owner, unpin, None, Disruption::None);
            expected = 0;
            undo = Some(update(place, 0));
        }
        let op = update(self.place(program), expected);
        self.step(Order::Links, owner, op, undo, Disruption::None);
    }

    /// The program that leads where an entry program leads now and where it is to lead, if those
    /// differ and the one that runs is known.
    pub(super) fn transitional(&self, program: &PinPath, active: Bank) -> Option<Program> {
        let old = self.applied?.programs.get(program)?;
        let fingerprint = old.fingerprint(
            |name| self.observed.ifindex(name),
            |map| self.observed.maps.get(map).map(|map| map.id),
        );
        if fingerprint.as_ref() != Some(&self.observed.programs.get(program)?.fingerprint) {
            return None;
        }
        let new = self.placed(self.desired.programs.get(program)?);
        wiring::transitional(old, &new, active)
    }

    /// An interface that changes from one hook to another is attached at the new one first. One of
    /// ours stays attached as long as packets may be led through it.
    fn detach_order(&self, link: &observed::Link, switch: Switch) -> Order {
        if switch != Switch::None && self.was_ours(link) {
            return Order::Retire;
        }
        let is_ingress = |point| point != AttachPoint::TcEgress;
        let stays = self.desired.links.values().any(|attachment| {
            is_ingress(attachment.point)
                && self.ifindex(&attachment.interface) == Some(link.ifindex)
        });
        if link.point.is_some_and(is_ingress) && stays && !self.changes_mode(link) {
            Order::Removed
        } else {
            Order::Detach
        }
    }

    /// True if an XDP link gives way to one in another mode: an interface has one mode at a time, so
    /// the old one goes first.
    fn changes_mode(&self, link: &observed::Link) -> bool {
        let is_xdp = |point| matches!(point, AttachPoint::Xdp | AttachPoint::XdpGeneric);
        link.point.is_some_and(is_xdp)
            && self.desired.links.values().any(|attachment| {
                is_xdp(attachment.point)
                    && Some(attachment.point) != link.point
                    && self.ifindex(&attachment.interface) == Some(link.ifindex)
            })
    }

    /// True for the ends on the host of a pair of ours.
    fn is_ours(&self, interface: &InterfaceName) -> bool {
        let veths = &self.desired.veths;
        let is_far = |veth: &Veth| veth.peer.namespace.is_none() && veth.peer.name == *interface;
        veths.contains_key(interface) || veths.values().any(is_far)
    }

    /// The same, for a link that is there.
    fn was_ours(&self, link: &observed::Link) -> bool {
        let index = |name: &InterfaceName| self.observed.ifindex(name) == Some(link.ifindex);
        self.observed.veths.iter().any(|(name, veth)| {
            let far = veth.peer.as_ref();
            let far = far.filter(|peer| peer.namespace.is_none());
            index(name) || far.is_some_and(|peer| index(&peer.name))
        })
    }

    fn attach(&mut self, order: Order, path: &PinPath, attachment: Attachment) {
        let owner = attachment.owner.clone();
        let undo = Op::Detach(path.clone());
        self.step(
            order,
            &owner,
            Op::Attach(path.clone(), attachment),
            Some(undo),
            Disruption::None,
        );
    }

    fn reattach(&self, path: &PinPath, link: &observed::Link) -> Option<Op> {
        let (interface, _) = self
            .observed
            .interfaces
            .iter()
            .find(|(_, interface)| interface.ifindex == link.ifindex)?;
        let program = self.observed.program_by_id(link.program)?.clone();
        let attachment = Attachment {
            owner: owner_of(path),
            interface: interface.clone(),
            point: link.point?,
            program,
        };
        Some(Op::Attach(path.clone(), attachment))
    }
}
