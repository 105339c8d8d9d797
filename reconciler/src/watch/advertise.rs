//! When routers advertise themselves without being asked (RFC 4861, 6.2.4). Knows neither clock nor
//! kernel.

use std::collections::BTreeMap;

use ebpf_abi::router::{Advertisement, MIN_DELAY_BETWEEN_RAS};

/// The first few follow one another sooner (RFC 4861, 10: `MAX_INITIAL_RTR_ADVERTISEMENTS` and
/// `MAX_INITIAL_RTR_ADVERT_INTERVAL`).
const INITIAL: u32 = 3;
const INITIAL_INTERVAL: u64 = 16 * SECOND;
const SECOND: u64 = 1_000_000_000;

/// The ports of one router. Times are nanoseconds of the data planes' clock.
#[derive(Debug, Default)]
pub struct Schedule {
    ports: BTreeMap<u32, Port>,
}

#[derive(Debug)]
struct Port {
    says: Advertisement,
    /// How often it was said since it last changed.
    said: u32,
    due: u64,
}

impl Schedule {
    /// Takes what the ports are to say now. What is new was said when it was applied.
    pub fn set(&mut self, wanted: Vec<(u32, Advertisement)>, now: u64) {
        let mut ports = BTreeMap::new();
        for (number, says) in wanted {
            let old = self.ports.remove(&number);
            let port = old.filter(|old| old.says == says).unwrap_or(Port {
                says,
                said: 0,
                due: now + MIN_DELAY_BETWEEN_RAS,
            });
            ports.insert(number, port);
        }
        self.ports = ports;
    }

    /// What is to be sent now. `random` gives a number from 0 up to another one, not included.
    pub fn due(&mut self, now: u64, random: impl Fn(u64) -> u64) -> Vec<(u32, Vec<u8>)> {
        let mut frames = Vec::new();
        for (number, port) in self.ports.iter_mut().filter(|(_, port)| port.due <= now) {
            port.said = port.said.saturating_add(1);
            let longest = u64::from(port.says.interval).max(4) * SECOND;
            let shortest = (longest / 3).max(MIN_DELAY_BETWEEN_RAS);
            let mut pause = shortest + random(longest - shortest + 1);
            if port.said < INITIAL {
                pause = pause.min(INITIAL_INTERVAL);
            }
            port.due = now + pause;
            if let Some(frame) = port.says.frame.get(..port.says.length as usize) {
                frames.push((*number, frame.to_vec()));
            }
        }
        frames
    }

    /// When to ask what is due.
    pub fn next_due(&self) -> Option<u64> {
        self.ports.values().map(|port| port.due).min()
    }
}

#[cfg(test)]
mod tests {
    use ebpf_abi::router::ADVERTISEMENT_FRAME;

    use super::*;

    fn says(interval: u32, byte: u8) -> Advertisement {
        Advertisement {
            interval,
            length: 100,
            frame: [byte; ADVERTISEMENT_FRAME],
        }
    }

    /// Times at which port 1 speaks, in seconds, until an hour is over.
    fn times(interval: u32, random: impl Fn(u64) -> u64 + Copy) -> Vec<u64> {
        let mut schedule = Schedule::default();
        schedule.set(vec![(1, says(interval, 7))], 0);
        let mut times = Vec::new();
        while let Some(due) = schedule.next_due().filter(|due| *due < 3600 * SECOND) {
            let frames = schedule.due(due, random);
            assert_eq!(frames, [(1, vec![7; 100])]);
            times.push(due / SECOND);
        }
        times
    }

    #[test]
    fn the_first_follow_sooner() {
        assert_eq!(times(600, |to| to - 1)[..5], [3, 19, 35, 635, 1235]);
        assert_eq!(times(600, |_| 0)[..5], [3, 19, 35, 235, 435]);
    }

    #[test]
    fn never_too_often() {
        for interval in [4, 10, 1800] {
            for random in [|_| 0, |to: u64| to - 1] {
                let times = times(interval, random);
                assert!(
                    times.windows(2).all(|pair| pair[1] - pair[0] >= 3),
                    "{times:?}"
                );
                let most = u64::from(interval).max(3);
                assert!(
                    times.windows(2).all(|pair| pair[1] - pair[0] <= most),
                    "{times:?}"
                );
            }
        }
    }

    #[test]
    fn what_changes_is_said_soon_and_what_goes_is_not() {
        let mut schedule = Schedule::default();
        schedule.set(vec![(1, says(600, 7)), (2, says(600, 8))], 0);
        assert_eq!(schedule.due(3 * SECOND, |_| 0).len(), 2);
        schedule.set(vec![(1, says(600, 9)), (2, says(600, 8))], 5 * SECOND);
        assert_eq!(schedule.due(8 * SECOND, |_| 0), [(1, vec![9; 100])]);
        schedule.set(Vec::new(), 9 * SECOND);
        assert_eq!(schedule.next_due(), None);
    }
}
