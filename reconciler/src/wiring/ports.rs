//! Ports: a cube's port table, and the pairs of interfaces that its ports need.

use std::collections::BTreeMap;

use ebpf_abi::{
    chain::CubeChain,
    entry::{ENTRY_INHERITS, ENTRY_NOTED, Entry},
    port::{self, PORT_MULTICAST_ROUTER, PORT_VIA_TC, Port, behind},
};
use topology_schema::{Cube, Endpoint, Hook as InterfaceHook, InterfaceName, Name};

use super::{Hop, alias, cube_chain, outer_name};
use crate::{
    address::Address,
    cube::driver_for,
    desired::Builder,
    digest::Digest,
    resource::{AttachPoint, Hook, Template, Veth, VethPeer},
};

/// MTU of the pairs that bring frames from program to program: any frame fits.
const PORTAL_MTU: u32 = 65535;

impl Builder<'_, '_> {
    /// The port table of a standard cube, and the pairs of interfaces that its ports need.
    pub(crate) fn port_table(&mut self, cube: &Name, chain: CubeChain) -> BTreeMap<u32, Template> {
        let mut ports: Vec<(&Name, u32)> = self
            .graph
            .ports(cube)
            .filter_map(|port| Some((port, self.allocation.port(cube, port)?)))
            .collect();
        ports.sort_by_key(|(_, index)| *index);
        let kind = self.graph.cube(cube).map(Cube::kind);
        let floods = kind.is_some_and(|kind| driver_for(kind).floods());
        let xdp = self.xdp.contains(cube);
        let via_tc: Vec<bool> = ports
            .iter()
            .map(|(port, _)| self.only_via_tc(cube, port))
            .collect();
        // A router sends copies besides what it forwards, wherever it leads, and XDP cannot.
        let routes = kind.is_some_and(|kind| driver_for(kind).routes());
        let hands_over = xdp && (floods || routes || via_tc.contains(&true));
        let mut rest_served = false;
        let mut to_programs = false;
        let mut table = BTreeMap::new();
        for ((port, index), via_tc) in ports.into_iter().zip(via_tc) {
            let endpoint = Endpoint::Port {
                cube: cube.clone(),
                port: port.clone(),
            };
            let hop = self.first_out(&endpoint, Hook::Tc);
            // One port that a program serves gets the original of a flooded frame.
            let to_program = matches!(hop, Hop::Program(..));
            let copies = floods && to_program && rest_served;
            rest_served |= to_program;
            to_programs |= to_program;
            let handed_over = hands_over && hop != Hop::None;
            let copies_to = if copies {
                Some(self.portal_name(&endpoint.to_string()))
            } else if routes && to_program {
                Some(self.portal_name(cube.as_str()))
            } else {
                None
            };
            let entry = self.port_entry(&endpoint, &hop, via_tc, copies_to, handed_over);
            if copies || handed_over {
                self.portal(&endpoint, chain, index, &hop, copies, handed_over);
            }
            table.insert(index, entry);
        }
        if routes && to_programs {
            self.portal_of_cube(cube);
        }
        table
    }

    fn port_entry(
        &self,
        endpoint: &Endpoint,
        hop: &Hop,
        via_tc: bool,
        copies_to: Option<InterfaceName>,
        hands_over: bool,
    ) -> Template {
        let Endpoint::Port { cube, port } = endpoint else {
            return Template::plain([0; size_of::<Port>()]);
        };
        let (encoded, interface) = hop.encode();
        let settings = self.graph.cube(cube);
        let mut flags = settings.map_or(0, |settings| {
            driver_for(settings.kind()).port_flags(settings, port)
        });
        if via_tc {
            flags |= PORT_VIA_TC;
        }
        if settings.is_some_and(|settings| driver_for(settings.kind()).floods())
            && *hop != Hop::None
        {
            flags |= behind(self.hash_behind(cube, port));
            if self.leads_to_router(cube, port) {
                flags |= PORT_MULTICAST_ROUTER;
            }
        }
        let entry = Port {
            hop: encoded,
            flags,
            flood_ifindex: 0,
            handover_ifindex: 0,
        };
        let mut ifindexes = Vec::new();
        if let Some(interface) = interface {
            ifindexes.push((
                std::mem::offset_of!(Port, hop) + std::mem::offset_of!(port::Hop, ifindex),
                interface,
            ));
        }
        if let Some(portal) = copies_to {
            ifindexes.push((std::mem::offset_of!(Port, flood_ifindex), portal));
        }
        if hands_over {
            let portal = self.portal_name(&endpoint.to_string());
            ifindexes.push((std::mem::offset_of!(Port, handover_ifindex), portal));
        }
        Template {
            bytes: bytemuck::bytes_of(&entry).to_vec(),
            ifindexes,
        }
    }

    /// True if XDP must not send to the port's interface: a pair's far end takes no XDP frames,
    /// an interface without XDP may not either, and a stack on an interface filters what leaves
    /// on TC.
    fn only_via_tc(&self, cube: &Name, port: &Name) -> bool {
        let endpoint = Endpoint::Port {
            cube: cube.clone(),
            port: port.clone(),
        };
        match self.graph.peer(&endpoint) {
            Some(Endpoint::Host(interface)) => {
                self.graph.hook(interface) == InterfaceHook::Tc
                    || !self.graph.interface_stack(interface).is_empty()
            }
            Some(Endpoint::Namespace { .. }) => true,
            Some(Endpoint::Port { .. }) | None => false,
        }
    }

    /// True if a cube whose ports are stations is right behind the port: it says nothing of groups.
    fn leads_to_router(&self, cube: &Name, port: &Name) -> bool {
        let endpoint = Endpoint::Port {
            cube: cube.clone(),
            port: port.clone(),
        };
        match self.graph.peer(&endpoint) {
            Some(Endpoint::Port { cube, .. }) => self
                .graph
                .cube(cube)
                .is_some_and(|peer| driver_for(peer.kind()).routes()),
            Some(Endpoint::Namespace { .. } | Endpoint::Host(_)) | None => false,
        }
    }

    /// A hash of what is behind a port, not 0. It is another one when anything comes, goes or
    /// moves there.
    fn hash_behind(&self, cube: &Name, port: &Name) -> u16 {
        let mut digest = Digest::new();
        for end in self.graph.ends_behind(cube, port) {
            digest.add(end.to_string().as_bytes());
        }
        digest.word().max(1)
    }

    /// The near end of the portal of a port, or of a cube.
    fn portal_name(&self, of: &str) -> InterfaceName {
        outer_name(
            &self.graph.topology().topology().metadata.name,
            &format!("portal {of}"),
        )
    }

    fn portal_pair(&mut self, of: &str, owner: &Address, gro: bool) -> [InterfaceName; 2] {
        let topology = self.graph.topology().topology().metadata.name.clone();
        let near = self.portal_name(of);
        let far = outer_name(&topology, &format!("portal-far {of}"));
        let peer = VethPeer {
            namespace: None,
            name: far.clone(),
            mac: None,
            mtu: PORTAL_MTU,
            addresses: Default::default(),
            routes: Default::default(),
            up: true,
            gro,
        };
        let veth = Veth {
            owner: owner.clone(),
            alias: alias(&topology, of),
            peer,
        };
        self.desired.veths.insert(near.clone(), veth);
        [near, far]
    }

    /// A pair of interfaces of ours for copies to programs, whichever port they leave at: they
    /// are put on the ingress hook of the near end, and say themselves where they go.
    fn portal_of_cube(&mut self, cube: &Name) {
        let owner = Address::cube(cube);
        let [near, _] = self.portal_pair(cube.as_str(), &owner, false);
        let entry = Entry {
            slot: 0,
            port: 0,
            flags: ENTRY_INHERITS | ENTRY_NOTED,
        };
        let map = cube_chain(cube, Hook::Tc);
        self.entry(&owner, &near, AttachPoint::TcIngress, &map, entry);
    }

    /// A pair of interfaces of ours through which frames come to a program that cannot be
    /// jumped to. A frame put on the ingress hook of the near end leaves the cube at the port;
    /// a frame sent through the near end comes out at the far end, and enters the cube at the
    /// port, on TC.
    fn portal(
        &mut self,
        endpoint: &Endpoint,
        chain: CubeChain,
        index: u32,
        hop: &Hop,
        copies: bool,
        hands_over: bool,
    ) {
        let Endpoint::Port { cube, .. } = endpoint else {
            return;
        };
        let owner = Address::cube(cube);
        let [near, far] = self.portal_pair(&endpoint.to_string(), &owner, hands_over);
        let map = cube_chain(cube, Hook::Tc);
        if copies {
            let port = match hop {
                Hop::Program(_, port) => *port,
                Hop::Interface(_) | Hop::Peer(_) | Hop::Pass | Hop::None => 0,
            };
            let entry = Entry {
                slot: chain.out(index),
                port,
                flags: ENTRY_INHERITS,
            };
            self.entry(&owner, &near, AttachPoint::TcIngress, &map, entry);
        }
        if hands_over {
            let entry = Entry {
                slot: chain.own(),
                port: index,
                flags: 0,
            };
            self.entry(&owner, &far, AttachPoint::TcIngress, &map, entry);
        }
    }
}
