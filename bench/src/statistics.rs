//! Medians, and how sure they are.

use serde::{Deserialize, Serialize};

/// A median with the interval that holds the true one in 95 of 100 such measurements.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The median.
    pub median: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// How often samples are drawn anew.
const RESAMPLES: usize = 2000;
/// What is outside of the interval at each end, of a thousand.
const TAIL: usize = 25;

/// The median; not a number if there is nothing.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 500)
}

/// The value below which so many of a thousand are; between two of them, what is between. Not a number if there is nothing.
pub fn quantile(values: &[f64], thousandths: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = (last * thousandths) as f64 / 1000.0;
    let (below, above) = (
        sorted[place.floor() as usize],
        sorted[place.ceil() as usize],
    );
    below + (above - below) * place.fract()
}

/// The median of values with its 95 % interval, by the bootstrap: medians of samples that are drawn from the values, with
/// repetition, as many as there are values. The same values give the same interval.
pub fn interval(values: &[f64]) -> Interval {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let drawn: Vec<f64> = (0..values.len())
                .map(|_| values[random.below(values.len())])
                .collect();
            median(&drawn)
        })
        .collect();
    Interval {
        median: median(values),
        low: quantile(&medians, TAIL),
        high: quantile(&medians, 1000 - TAIL),
    }
}

/// The slope of `log y` over `log x` by least squares: the exponent with which a cost grows.
pub fn exponent(points: &[(f64, f64)]) -> f64 {
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let count = logs.len() as f64;
    let mean = |pick: fn(&(f64, f64)) -> f64| logs.iter().map(pick).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let over = logs.iter().map(|point| (point.0 - x) * (point.1 - y));
    let under = logs.iter().map(|point| (point.0 - x).powi(2));
    over.sum::<f64>() / under.sum::<f64>()
}

/// Numbers that are the same at every run (xorshift64*).
pub struct Random(pub u64);

impl Random {
    /// The next one.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// One below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        ((self.next() >> 32) as usize) % limit
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
        assert_eq!(quantile(&[0.0, 10.0], 250), 2.5);
    }

    #[test]
    fn exponents() {
        let cost = |power: f64| [10.0, 100.0, 1000.0_f64].map(|x| (x, 7.0 * x.powf(power)));
        assert!((exponent(&cost(1.0)) - 1.0).abs() < 1e-9);
        assert!((exponent(&cost(1.5)) - 1.5).abs() < 1e-9);
    }

    /// Of many samples with a known median, the interval holds it in about 95 of 100.
    #[test]
    fn intervals_hold_the_median() {
        let mut random = Random(7);
        let held = (0..200).filter(|_| {
            let values: Vec<f64> = (0..20).map(|_| random.below(10_000) as f64).collect();
            let Interval { low, high, .. } = interval(&values);
            low <= 5000.0 && 5000.0 <= high
        });
        let held = held.count();
        assert!((180..=200).contains(&held), "{held} of 200");
    }

    proptest! {
        #[test]
        fn an_interval_is_around_its_median(values in prop::collection::vec(0.1..1e9_f64, 1..40)) {
            let Interval { median, low, high } = interval(&values);
            prop_assert!(low <= median && median <= high);
            prop_assert!(values.iter().any(|value| *value <= low));
            prop_assert!(values.iter().any(|value| *value >= high));
        }
    }
}
