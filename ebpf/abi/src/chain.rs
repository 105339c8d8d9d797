//! Slots of a chain: the program array through which programs follow one another.
//!
//! Each standard cube has one chain per hook, and each interface with a `through` list has one.
//! A slot's number follows from what it stands for, so nothing has to be allocated or recorded.
//!
//! Every slot is there twice, once per *bank*, and so is every entry of a port table. A packet
//! stays in the bank that was active when it came in, so several slots change at once: they are
//! written in the other bank, and then that one is made active. This is the two-phase update of
//! Reitblatt et al., "Abstractions for Network Update" (SIGCOMM 2012), with one bit of version.

/// Ports a chain is made for at least; larger cubes get the next power of two.
pub const MIN_PORTS: u32 = 64;
/// Ports a cube can have.
pub const MAX_PORTS: u32 = 1024;
/// Transparent cubes in one stack. The kernel ends a packet's way after 33 programs.
pub const MAX_STACK: u32 = 16;
/// Ports for which a hop is a direct jump: compared with a constant and then patched by the
/// JIT. Further ports jump through the table.
pub const DIRECT_PORTS: u32 = 16;

/// Programs that a standard cube can be made of: the first one, and those it leaves rare work to.
pub const PARTS: u32 = 4;

/// Banks.
pub const BANKS: u32 = 2;

/// Where the entry `index` of a chain or port table is in its kernel map.
pub const fn in_bank(index: u32, bank: u32) -> u32 {
    index * BANKS + bank
}

/// Direction of a packet seen by a transparent cube.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Direction {
    /// Towards the cube that owns the port, or the host's stack.
    Ingress = 0,
    /// Away from it.
    Egress = 1,
}

impl Direction {
    /// The opposite one.
    #[inline(always)]
    pub const fn other(self) -> Self {
        match self {
            Self::Ingress => Self::Egress,
            Self::Egress => Self::Ingress,
        }
    }
}

/// Slots of a standard cube's chain with room for `capacity` ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CubeChain {
    /// Ports there is room for.
    pub capacity: u32,
}

impl CubeChain {
    /// The chain of a cube whose highest port index is below `ports`.
    pub const fn for_ports(ports: u32) -> Self {
        let capacity = if ports <= MIN_PORTS {
            MIN_PORTS
        } else {
            ports.next_power_of_two()
        };
        Self { capacity }
    }

    /// The first program after the cube for packets sent to `port`. Equal to the port's index,
    /// so that a data plane needs no arithmetic.
    pub const fn out(self, port: u32) -> u32 {
        port
    }

    /// The first program for packets that come in from the link of `port`.
    pub const fn inlet(self, port: u32) -> u32 {
        self.capacity + port
    }

    /// The program after the transparent cube at `position` (0 is met first) of a stack.
    pub const fn after(self, port: u32, direction: Direction, position: u32) -> u32 {
        2 * self.capacity + (port * 2 + direction as u32) * MAX_STACK + position
    }

    /// The second program of the transparent cube at `position` of a stack, to which it leaves rare work.
    pub const fn second(self, port: u32, direction: Direction, position: u32) -> u32 {
        2 * self.capacity * MAX_STACK + self.after(port, direction, position)
    }

    /// The program for incoming packets of the transparent cube at `position` of a stack, for what turns round
    /// there as it leaves.
    pub const fn turn(self, port: u32, position: u32) -> u32 {
        2 * self.capacity * (1 + 2 * MAX_STACK) + port * MAX_STACK + position
    }

    /// The cube's own program, past all stacks.
    pub const fn own(self) -> u32 {
        self.capacity * (2 + 5 * MAX_STACK)
    }

    /// The cube's program number `part`, below [`PARTS`]. Number 0 is its own.
    pub const fn part(self, part: u32) -> u32 {
        self.own() + part
    }

    /// Slots of one bank.
    pub const fn len(self) -> u32 {
        self.own() + PARTS
    }

    /// Never: a chain has at least its own slot.
    pub const fn is_empty(self) -> bool {
        false
    }
}

/// Slots of an interface's chain: its stacks in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceChain;

impl InterfaceChain {
    /// Slots of one bank.
    pub const LEN: u32 = 4 * (MAX_STACK + 1);

    /// The program at `position` of a direction's stack; the one after the last is what the
    /// interface leads to.
    pub const fn at(direction: Direction, position: u32) -> u32 {
        direction as u32 * (MAX_STACK + 1) + position
    }

    /// The second program of the cube at `position`, as in [`CubeChain::second`].
    pub const fn second(direction: Direction, position: u32) -> u32 {
        2 * (MAX_STACK + 1) + Self::at(direction, position)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn slots_of_a_chain_are_distinct_and_inside() {
        for ports in [0, 1, 64, 65, 1024] {
            let chain = CubeChain::for_ports(ports);
            assert!(chain.capacity >= ports);
            let mut seen = BTreeSet::new();
            for port in 0..chain.capacity {
                assert!(seen.insert(chain.out(port)));
                assert!(seen.insert(chain.inlet(port)));
                for position in 0..MAX_STACK {
                    assert!(seen.insert(chain.turn(port, position)));
                }
                for direction in [Direction::Ingress, Direction::Egress] {
                    for position in 0..MAX_STACK {
                        assert!(seen.insert(chain.after(port, direction, position)));
                        assert!(seen.insert(chain.second(port, direction, position)));
                    }
                }
            }
            for part in 0..PARTS {
                assert!(seen.insert(chain.part(part)));
            }
            assert_eq!(chain.part(0), chain.own());
            assert_eq!(seen.len() as u32, chain.len());
            assert_eq!(seen.last(), Some(&(chain.len() - 1)));
        }
    }

    #[test]
    fn slots_of_an_interface_are_distinct_and_inside() {
        let mut seen = BTreeSet::new();
        for direction in [Direction::Ingress, Direction::Egress] {
            for position in 0..=MAX_STACK {
                assert!(seen.insert(InterfaceChain::at(direction, position)));
                assert!(seen.insert(InterfaceChain::second(direction, position)));
            }
        }
        assert_eq!(seen.len() as u32, InterfaceChain::LEN);
        assert_eq!(seen.last(), Some(&(InterfaceChain::LEN - 1)));
    }
}
