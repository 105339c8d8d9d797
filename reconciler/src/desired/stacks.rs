//! Stacks: the programs of transparent cubes on ports and interfaces.

use std::collections::BTreeSet;

use ebpf_abi::{
    chain::{Direction, InterfaceChain, MAX_STACK},
    transparent,
};
use topology_schema::{Endpoint, Name};

use super::Builder;
use crate::{
    address::Address,
    cube::driver_for,
    resource::{Hook, PinPath, Program, Template},
    wiring::{self, Hop},
};

/// Slots of a stack's programs: of what follows one, and of its second one.
struct Slots<'a> {
    /// Of its program for packets that come in, for what turns round; `None` where nothing does.
    turn: Option<(&'a dyn Fn(u32) -> u32, u32)>,
    after: &'a dyn Fn(Direction, u32) -> u32,
    second: &'a dyn Fn(Direction, u32) -> u32,
}

impl Builder<'_, '_> {
    /// The programs of stacks on ports: one per transparent cube, direction and hook.
    pub(super) fn stacks(&mut self) {
        let graph = self.graph;
        for (endpoint, stack) in crate::allocation::stacks(graph) {
            match &endpoint {
                Endpoint::Port { cube, port } => {
                    if graph.peer(&endpoint).is_none() {
                        continue;
                    }
                    let Some(index) = self.allocation.port(cube, port) else {
                        continue;
                    };
                    let chain = wiring::chain_of(self.allocation, cube);
                    for hook in self.hooks(cube) {
                        let map = wiring::cube_chain(cube, *hook);
                        let routes = self.graph.cube(cube);
                        let routes = routes.is_some_and(|cube| driver_for(cube.kind()).routes());
                        let turn = |position| chain.turn(index, position);
                        let slots = Slots {
                            turn: routes.then_some((&turn, index)),
                            after: &|direction, position| chain.after(index, direction, position),
                            second: &|direction, position| chain.second(index, direction, position),
                        };
                        let inwards = wiring::own_program(cube, *hook);
                        let outwards = self.hop_out(&endpoint, *hook);
                        let behind = match outwards {
                            Hop::Program(_, port) => port,
                            Hop::Interface(_) | Hop::Peer(_) | Hop::Pass | Hop::None => 0,
                        };
                        for (direction, end, back) in [
                            (Direction::Ingress, &inwards, (&outwards, behind)),
                            (Direction::Egress, &outwards, (&inwards, index)),
                        ] {
                            self.stack(
                                &endpoint,
                                stack,
                                *hook,
                                direction,
                                &map,
                                &slots,
                                end,
                                Some(back),
                            );
                        }
                    }
                }
                Endpoint::Host(interface) if self.present.contains(interface) => {
                    let hook = wiring::hook_of(graph.hook(interface));
                    let slots = Slots {
                        turn: None,
                        after: &InterfaceChain::at,
                        second: &InterfaceChain::second,
                    };
                    let owner = Address::interface(interface);
                    for hook in BTreeSet::from([hook, Hook::Tc]) {
                        self.slots_map(
                            &owner,
                            wiring::interface_chain(interface, hook),
                            InterfaceChain::LEN,
                        );
                    }
                    let map = wiring::interface_chain(interface, hook);
                    let inwards = self.hop_in(&endpoint, hook);
                    self.stack(
                        &endpoint,
                        stack,
                        hook,
                        Direction::Ingress,
                        &map,
                        &slots,
                        &inwards,
                        None,
                    );
                    let map = wiring::interface_chain(interface, Hook::Tc);
                    self.stack(
                        &endpoint,
                        stack,
                        Hook::Tc,
                        Direction::Egress,
                        &map,
                        &slots,
                        &Hop::Pass,
                        None,
                    );
                }
                Endpoint::Host(_) | Endpoint::Namespace { .. } => {}
            }
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one stack is described by all of these"
    )]
    fn stack(
        &mut self,
        endpoint: &Endpoint,
        stack: &[Name],
        hook: Hook,
        direction: Direction,
        chain: &PinPath,
        slots: &Slots<'_>,
        end: &Hop,
        back: Option<(&Hop, u32)>,
    ) {
        let other = match direction {
            Direction::Ingress => Direction::Egress,
            Direction::Egress => Direction::Ingress,
        };
        let other_order = wiring::in_order(stack, other);
        let order = wiring::in_order(stack, direction);
        for (at, name) in order.iter().enumerate() {
            let (Some(position), Some(attachment), Some(cube)) = (
                self.allocation.position(endpoint, name),
                self.allocation.attachment(name, endpoint),
                self.graph.cube(name),
            ) else {
                continue;
            };
            let next = match order.get(at + 1) {
                Some(next) => {
                    Hop::Program(wiring::stack_program(endpoint, next, direction, hook), 0)
                }
                None => end.clone(),
            };
            let slot = (slots.after)(direction, position);
            let owner = Address::cube(name);
            if let Hop::Program(program, _) = &next {
                self.slot(&owner, chain.clone(), slot, program.clone());
            }
            let driver = driver_for(cube.kind());
            let mut globals = self.globals(name);
            globals.insert(
                "ATTACHMENT",
                wiring::attachment(
                    direction,
                    transparent::counter_index(attachment, direction),
                    slot,
                    &next,
                ),
            );
            if driver.answers() {
                let behind = other_order.iter().rposition(|one| one == name);
                let follows = behind.and_then(|at| other_order.get(at + 1));
                let way = back.map(|(end, port)| {
                    let next = follows.map_or_else(
                        || end.clone(),
                        |next| {
                            let program = wiring::stack_program(endpoint, next, other, hook);
                            Hop::Program(program, 0)
                        },
                    );
                    (next, port)
                });
                let port = way.as_ref().map_or(0, |(_, port)| *port);
                let next = way.as_ref().map(|(next, _)| next);
                globals.insert(
                    "BACK",
                    wiring::back((slots.after)(other, position), next, port),
                );
            }
            if let Some((turn, port)) = slots.turn
                && direction == Direction::Egress
                && driver.turns(cube)
            {
                let slot = turn(position);
                let program = wiring::stack_program(endpoint, name, other, hook);
                self.slot(&owner, chain.clone(), slot, program);
                globals.insert("TURN", wiring::turn(slot, port));
            }
            let mut parts = 0..1;
            if driver.has_second(cube, direction) {
                parts.end = 2;
                let slot = (slots.second)(direction, position);
                let second = wiring::stack_part(endpoint, name, direction, hook, 1);
                self.slot(&owner, chain.clone(), slot, second);
                globals.insert("PART", Template::plain(slot.to_ne_bytes()));
            }
            for part in parts {
                let program = Program {
                    owner: owner.clone(),
                    object: driver.object(),
                    hook,
                    part,
                    globals: globals.clone(),
                    maps: self.cube_maps(name, std::slice::from_ref(chain)),
                };
                self.desired.programs.insert(
                    wiring::stack_part(endpoint, name, direction, hook, part),
                    program,
                );
            }
        }
    }

    pub(super) fn first_of_stack(
        &mut self,
        owner: &Address,
        endpoint: &Endpoint,
        stack: &[Name],
        direction: Direction,
        chain: &PinPath,
        hook: Hook,
    ) {
        if let Some(first) = wiring::in_order(stack, direction).first() {
            let program = wiring::stack_program(endpoint, first, direction, hook);
            self.slot(
                owner,
                chain.clone(),
                InterfaceChain::at(direction, MAX_STACK),
                program,
            );
        }
    }
}
