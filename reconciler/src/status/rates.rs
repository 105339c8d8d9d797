//! How fast ports and attachments count, from two looks at them.

use std::time::Duration;

use super::{
    Status,
    counters::{Rate, Rates, Traffic, Volume},
};

impl Status {
    /// Adds how fast everything counted since an earlier look, `elapsed` ago. What was not there
    /// then has no rates.
    pub fn add_rates(&mut self, before: &Self, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        for (name, cube) in &mut self.cubes {
            let Some(old) = before.cubes.get(name) else {
                continue;
            };
            for (name, port) in &mut cube.ports {
                if let Some(old) = old.ports.get(name) {
                    port.traffic.add_rates(&old.traffic, seconds);
                }
            }
            for (name, attachment) in &mut cube.attachments {
                if let Some(old) = old.attachments.get(name) {
                    attachment.ingress.add_rates(&old.ingress, seconds);
                    attachment.egress.add_rates(&old.egress, seconds);
                }
            }
        }
    }
}

impl Traffic {
    fn add_rates(&mut self, before: &Self, seconds: f64) {
        self.rates = Some(Rates {
            rx: rate(self.rx, before.rx, seconds),
            tx: rate(self.tx, before.tx, seconds),
        });
    }
}

/// A counter that starts anew is not negative.
fn rate(now: Volume, before: Volume, seconds: f64) -> Rate {
    let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
    Rate {
        packets_per_second: per_second(now.packets, before.packets),
        bits_per_second: per_second(now.bytes, before.bytes) * 8.0,
    }
}
