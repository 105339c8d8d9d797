//! Packets that wait for a neighbour: who is next, and when. Knows neither clock nor kernel.
//!
//! A packet is in one place at a time: on its way through the cube, or here. What is given back
//! meets the cube once more, which alone decides: it forwards the packet, or says that the host
//! is unreachable, or asks for the neighbour again and gives the packet away again, or drops and
//! counts it. So nothing is lost uncounted and nothing is doubled.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use ebpf_abi::router::{
    MAX_SOLICIT, Neighbor, NeighborKey, NeighborState, RETRANS_TIMER, WAITING_AGAIN,
    WAITING_BEHIND, WAITING_KNOWN, WAITING_NEW, Waiting,
};

/// Packets that wait for one neighbour; a new one takes the place of the oldest (RFC 4861,
/// 7.2.2).
const PER_NEIGHBOR: usize = 16;
/// Packets that wait in all.
const IN_ALL: usize = 1024;
/// How long a packet waits at most, whatever the cube says: a little longer than it takes to ask
/// in vain.
const LONGEST: u64 = Duration::from_secs(5).as_nanos() as u64;
/// The data planes' clock goes in steps of up to 10 ms.
const TICK: u64 = Duration::from_millis(12).as_nanos() as u64;

/// A packet, as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// At which port.
    pub port: u32,
    /// With its Ethernet header.
    pub frame: Vec<u8>,
}

/// All packets of one cube that wait. Times are nanoseconds of the data planes' clock.
#[derive(Debug, Default)]
pub struct Queue {
    lines: BTreeMap<NeighborKey, Line>,
    packets: usize,
}

/// Packets to one neighbour, in their order.
#[derive(Debug)]
struct Line {
    packets: VecDeque<Packet>,
    since: u64,
    /// When to look after it.
    due: u64,
    /// Who comes back is given up.
    closed: bool,
}

/// What to do with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The cube decides on all of them.
    All,
    /// The cube asks again for the first one.
    First,
    /// Nothing until then.
    Wait(u64),
}

impl Queue {
    /// Takes what the cube gave away. Returns what is to be given back now, in this order.
    pub fn take(&mut self, header: &Waiting, frame: &[u8]) -> Vec<Packet> {
        let (key, now) = (header.neighbor, header.time);
        let packet = Packet {
            port: header.port,
            frame: frame.to_vec(),
        };
        match header.kind {
            WAITING_NEW => {
                let line = self.line(key, now);
                line.packets.push_back(packet);
                let crowded = line.packets.len() > PER_NEIGHBOR;
                self.packets += 1;
                if crowded {
                    self.first(&key).into_iter().collect()
                } else if self.packets > IN_ALL {
                    self.oldest().into_iter().collect()
                } else {
                    Vec::new()
                }
            }
            WAITING_AGAIN => {
                let line = self.line(key, now);
                if line.closed {
                    return vec![packet];
                }
                line.due = now + RETRANS_TIMER + TICK;
                line.packets.push_front(packet);
                self.packets += 1;
                Vec::new()
            }
            WAITING_BEHIND => {
                let mut all = self.all(&key);
                all.push(packet);
                all
            }
            WAITING_KNOWN => self.all(&key),
            _ => Vec::new(),
        }
    }

    /// What is to be given back because of the time. `look` says what the cube knows.
    pub fn due(
        &mut self,
        now: u64,
        look: impl Fn(&NeighborKey) -> Option<Neighbor>,
    ) -> Vec<Packet> {
        let due: Vec<NeighborKey> = self
            .lines
            .iter()
            .filter(|(_, line)| line.due <= now)
            .map(|(key, _)| *key)
            .collect();
        let mut back = Vec::new();
        for key in due {
            let Some(line) = self.lines.get_mut(&key) else {
                continue;
            };
            if line.packets.is_empty() {
                self.lines.remove(&key);
                continue;
            }
            let old = now.saturating_sub(line.since) > LONGEST;
            // If the first comes back, there is more to wait for.
            line.due = now + TICK;
            match next(look(&key), now) {
                _ if old => {
                    line.closed = true;
                    back.extend(self.all(&key));
                }
                Next::All => back.extend(self.all(&key)),
                Next::First => back.extend(self.first(&key)),
                Next::Wait(until) => line.due = until,
            }
        }
        back
    }

    /// When to ask what is due.
    pub fn next_due(&self) -> Option<u64> {
        self.lines.values().map(|line| line.due).min()
    }

    /// Gives up: all that is here.
    pub fn clear(&mut self) -> Vec<Packet> {
        self.packets = 0;
        std::mem::take(&mut self.lines)
            .into_values()
            .flat_map(|line| line.packets)
            .collect()
    }

    fn line(&mut self, key: NeighborKey, now: u64) -> &mut Line {
        self.lines.entry(key).or_insert_with(|| Line {
            packets: VecDeque::new(),
            since: now,
            due: now + RETRANS_TIMER + TICK,
            closed: false,
        })
    }

    fn all(&mut self, key: &NeighborKey) -> Vec<Packet> {
        let line = self.lines.get_mut(key);
        let all: Vec<Packet> = line.map_or_else(Vec::new, |line| line.packets.drain(..).collect());
        self.packets -= all.len();
        all
    }

    fn first(&mut self, key: &NeighborKey) -> Option<Packet> {
        let first = self.lines.get_mut(key)?.packets.pop_front()?;
        self.packets -= 1;
        Some(first)
    }

    /// The first of those who wait longest.
    fn oldest(&mut self) -> Option<Packet> {
        let lines = self
            .lines
            .iter()
            .filter(|(_, line)| !line.packets.is_empty());
        let (key, _) = lines.min_by_key(|(_, line)| line.since)?;
        let key = *key;
        self.first(&key)
    }
}

/// The same as the data plane's states, so that nothing is given back in vain.
fn next(neighbor: Option<Neighbor>, now: u64) -> Next {
    let Some(neighbor) = neighbor else {
        return Next::First;
    };
    if neighbor.heard != 0 && neighbor.state(now) != NeighborState::Expired {
        return Next::All;
    }
    let due = neighbor.asked_at + RETRANS_TIMER + TICK;
    if now < due {
        return Next::Wait(due);
    }
    if neighbor.asked >= MAX_SOLICIT {
        Next::All
    } else {
        Next::First
    }
}

#[cfg(test)]
mod tests {
    use ebpf_abi::address::{V4, V6};
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn key(host: u8) -> NeighborKey {
        NeighborKey {
            port: 1,
            family: 4,
            address: V6::from_v4(V4::new([10, 0, 0, host])),
        }
    }

    fn header(kind: u32, host: u8, time: u64) -> Waiting {
        Waiting {
            time,
            neighbor: key(host),
            kind,
            port: 7,
            length: 1,
        }
    }

    /// The numbers of packets.
    fn numbers(packets: &[Packet]) -> Vec<u8> {
        packets.iter().map(|packet| packet.frame[0]).collect()
    }

    fn asked(times: u16, at: u64) -> Option<Neighbor> {
        Some(Neighbor {
            asked: times,
            asked_at: at,
            ..Neighbor::UNKNOWN
        })
    }

    #[test]
    fn packets_go_in_their_order_when_the_neighbor_is_known() {
        let mut queue = Queue::default();
        for number in 0..3 {
            let back = queue.take(&header(WAITING_NEW, 2, SECOND), &[number]);
            assert_eq!(back, []);
        }
        assert_eq!(queue.take(&header(WAITING_NEW, 3, SECOND), &[9]), []);
        // One more, which must not overtake.
        let back = queue.take(&header(WAITING_BEHIND, 2, SECOND), &[3]);
        assert_eq!(numbers(&back), [0, 1, 2, 3]);
        assert_eq!(back[0].port, 7);
        let back = queue.take(&header(WAITING_KNOWN, 3, SECOND), &[]);
        assert_eq!(numbers(&back), [9]);
        assert_eq!(queue.packets, 0);
    }

    #[test]
    fn the_first_asks_again_and_stays_the_first() {
        let mut queue = Queue::default();
        for number in 0..3 {
            queue.take(&header(WAITING_NEW, 2, SECOND), &[number]);
        }
        let due = queue.next_due().expect("it is looked after");
        assert!(due > 2 * SECOND);
        // Somebody else's packet has asked meanwhile.
        assert_eq!(queue.due(due, |_| asked(1, due - 1)), []);
        let due = queue.next_due().expect("it is looked after");
        let back = queue.due(due, |_| asked(1, due - 2 * SECOND));
        assert_eq!(numbers(&back), [0]);
        assert_eq!(queue.take(&header(WAITING_AGAIN, 2, due), &[0]), []);
        assert!(queue.next_due() > Some(due + SECOND));
        let back = queue.take(&header(WAITING_KNOWN, 2, due), &[]);
        assert_eq!(numbers(&back), [0, 1, 2]);
    }

    #[test]
    fn a_host_that_does_not_answer() {
        let mut queue = Queue::default();
        for number in 0..3 {
            queue.take(&header(WAITING_NEW, 2, 0), &[number]);
        }
        // Asked often enough: the cube says so to all senders.
        let back = queue.due(4 * SECOND, |_| asked(MAX_SOLICIT, 2 * SECOND));
        assert_eq!(numbers(&back), [0, 1, 2]);
        // Nothing came back; the line goes.
        assert_eq!(queue.due(5 * SECOND, |_| None), []);
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn nobody_waits_for_ever() {
        let mut queue = Queue::default();
        queue.take(&header(WAITING_NEW, 2, 0), &[0]);
        let (mut now, mut back_again) = (0, 0);
        while let Some(due) = queue.next_due() {
            now = due;
            // The entry was forgotten each time, so each time is the first.
            for packet in queue.due(now, |_| None) {
                let again = queue.take(&header(WAITING_AGAIN, 2, now), &packet.frame);
                back_again += 1;
                if !again.is_empty() {
                    assert!(now > LONGEST);
                    return;
                }
            }
            assert!(back_again < 10);
        }
        panic!("it went before it was given up: {now}");
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut queue = Queue::default();
        for number in 0..PER_NEIGHBOR as u8 {
            assert_eq!(queue.take(&header(WAITING_NEW, 2, 0), &[number]), []);
        }
        let back = queue.take(&header(WAITING_NEW, 2, 1), &[99]);
        assert_eq!(numbers(&back), [0]);
        assert_eq!(queue.packets, PER_NEIGHBOR);
        assert_eq!(queue.clear().len(), PER_NEIGHBOR);
    }

    proptest! {
        /// Whatever comes, each packet is either here or given back, once, and there are never
        /// too many.
        #[test]
        fn nothing_is_lost_nor_doubled(
            events in prop::collection::vec((0..5u32, any::<u8>(), 0..SECOND), 0..3000),
        ) {
            let mut queue = Queue::default();
            let (mut now, mut came, mut went) = (0, 0, 0);
            for (kind, host, pause) in events {
                now += pause / 100;
                if kind == 0 {
                    went += queue.due(now, |_| None).len();
                } else {
                    came += usize::from(kind != WAITING_KNOWN);
                    went += queue.take(&header(kind, host, now), &[0]).len();
                }
                let here: usize = queue.lines.values().map(|line| line.packets.len()).sum();
                prop_assert_eq!(here, queue.packets);
                prop_assert_eq!(came, went + here);
                prop_assert!(here <= IN_ALL + 256);
                for line in queue.lines.values() {
                    prop_assert!(line.packets.len() <= 2 * PER_NEIGHBOR);
                }
            }
            prop_assert_eq!(queue.clear().len(), came - went);
        }
    }
}
