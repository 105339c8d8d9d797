//! How long to wait after a failure: twice as long each time, up to a bound, and not all at once.

use std::time::Duration;

/// Exponential backoff with a cap and jitter.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The longest wait after the first failure.
    pub first: Duration,
    /// The longest wait of all.
    pub cap: Duration,
}

impl Backoff {
    /// The wait after so many failures in a row: between half and all of what doubling gives.
    pub fn after(self, failures: u32, random: u64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let longest = self.first.saturating_mul(1 << doublings).min(self.cap);
        let half = longest / 2;
        let span = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_nanos(random % span)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACKOFF: Backoff = Backoff {
        first: Duration::from_millis(500),
        cap: Duration::from_secs(60),
    };

    #[test]
    fn doubles_up_to_the_cap() {
        let least: Vec<u128> = (1..=10)
            .map(|failures| BACKOFF.after(failures, 0).as_millis())
            .collect();
        assert_eq!(
            least,
            [250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]
        );
        assert_eq!(BACKOFF.after(u32::MAX, 0), Duration::from_secs(30));
    }

    proptest! {
        #[test]
        fn jitter_stays_in_the_upper_half(failures in 1..100u32, random: u64) {
            let least = BACKOFF.after(failures, 0);
            let wait = BACKOFF.after(failures, random);
            prop_assert!(least <= wait && wait < least * 2);
            prop_assert!(wait <= BACKOFF.cap);
        }
    }
}
