//! What can be measured, in OpenMetrics: the kernel is read when somebody asks, and rounds of this
//! process are counted as they end.

mod catalogue;
mod scrape;
mod serve;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder, NoLabelSet, text},
    metrics::{MetricType, histogram::Histogram},
    registry::{Registry, Unit},
};
use topology_schema::Name;

pub use self::{
    catalogue::{FAMILIES, Family, Kind},
    serve::{Listen, Server},
};
use crate::journal::History;

/// Bounds of the histogram of rounds, in seconds: from a round that finds nothing to do, to one
/// that attaches thousands of programs.
const BOUNDS: [f64; 12] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// How a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RoundResult {
    /// There was nothing to do.
    Unchanged,
    /// What differed was applied.
    Applied,
    /// Left alone: a commit waits for its confirmation.
    Waiting,
    /// Another process was changing the topology.
    Busy,
    /// It failed before anything was changed.
    Failed,
    /// Applied, but the kernel shows something else.
    NotVerified,
    /// It failed, and what was there is back.
    RolledBack,
    /// It failed, and what was there is not back.
    Stuck,
}

impl RoundResult {
    /// All, in their order.
    pub const ALL: [Self; 8] = [
        Self::Unchanged,
        Self::Applied,
        Self::Waiting,
        Self::Busy,
        Self::Failed,
        Self::NotVerified,
        Self::RolledBack,
        Self::Stuck,
    ];

    /// Its name in outputs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Applied => "applied",
            Self::Waiting => "waiting",
            Self::Busy => "busy",
            Self::Failed => "failed",
            Self::NotVerified => "notVerified",
            Self::RolledBack => "rolledBack",
            Self::Stuck => "stuck",
        }
    }
}

/// Measures the topologies of one bpffs, and counts the rounds of this process.
#[derive(Debug)]
pub struct Metrics {
    bpffs: PathBuf,
    history: History,
    rounds: Mutex<BTreeMap<Name, Rounds>>,
}

/// The rounds of one topology.
#[derive(Debug)]
struct Rounds {
    results: BTreeMap<RoundResult, u64>,
    duration: Histogram,
}

impl Metrics {
    /// Of the topologies pinned below `bpffs`, with history below `state`.
    pub fn new(state: &Path, bpffs: &Path) -> Self {
        Self {
            bpffs: bpffs.to_owned(),
            history: History::new(state, bpffs, 0),
            rounds: Mutex::default(),
        }
    }

    /// Counts a round.
    pub fn round(&self, topology: &Name, result: RoundResult, took: Duration) {
        let mut rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        let rounds = rounds.entry(topology.clone()).or_insert_with(|| Rounds {
            // A series that comes with its first event hides that event from a rate.
            results: RoundResult::ALL.map(|result| (result, 0)).into(),
            duration: Histogram::new(BOUNDS),
        });
        *rounds.results.entry(result).or_default() += 1;
        rounds.duration.observe(took.as_secs_f64());
    }

    /// Everything, of one topology or of all, in the OpenMetrics text format. The same state gives
    /// the same order.
    pub fn encode(&self, only: Option<&Name>) -> Result<String, fmt::Error> {
        let start = Instant::now();
        let mut samples = Samples::default();
        samples.add(
            &catalogue::INFO,
            &[env!("CARGO_PKG_VERSION"), &crate::objects::build()],
            Value::Info,
        );
        self.add_rounds(only, &mut samples);
        scrape::all(&self.bpffs, &self.history, only, &mut samples);
        let took = start.elapsed().as_secs_f64();
        samples.add(&catalogue::SCRAPE_DURATION, &[], Value::Gauge(took));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(samples));
        let mut out = String::new();
        text::encode(&mut out, &registry)?;
        Ok(out)
    }

    fn add_rounds(&self, only: Option<&Name>, samples: &mut Samples) {
        let rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, rounds) in rounds.iter() {
            if only.is_some_and(|only| only != name) {
                continue;
            }
            let name = name.as_str();
            for (result, count) in &rounds.results {
                let labels = [name, result.name()];
                samples.add(&catalogue::RECONCILE, &labels, Value::Counter(*count));
            }
            let rollbacks = [RoundResult::RolledBack, RoundResult::Stuck]
                .iter()
                .filter_map(|result| rounds.results.get(result));
            samples.add(
                &catalogue::ROLLBACKS,
                &[name],
                Value::Counter(rollbacks.sum()),
            );
            samples.add(
                &catalogue::RECONCILE_DURATION,
                &[name],
                Value::Histogram(rounds.duration.clone()),
            );
        }
    }
}

/// A measured value.
#[derive(Clone, Debug)]
enum Value {
    Counter(u64),
    Gauge(f64),
    Histogram(Histogram),
    /// The labels say all.
    Info,
}

impl Value {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        match self {
            Self::Counter(count) => encoder.encode_counter::<NoLabelSet, _, u64>(count, None),
            Self::Gauge(value) => encoder.encode_gauge(value),
            Self::Histogram(histogram) => histogram.encode(encoder),
            Self::Info => Ok(()),
        }
    }
}

/// Values with their labels, by family.
#[derive(Debug, Default)]
struct Samples(BTreeMap<&'static str, Vec<(Vec<String>, Value)>>);

impl Samples {
    /// Adds a value; `labels` in the order in which the family has them.
    fn add(&mut self, family: &Family, labels: &[&str], value: Value) {
        debug_assert_eq!(labels.len(), family.labels.len(), "{}", family.name);
        let labels = labels.iter().map(ToString::to_string).collect();
        self.0.entry(family.name).or_default().push((labels, value));
    }
}

impl Collector for Samples {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in FAMILIES {
            let Some(samples) = self.0.get(family.name) else {
                continue;
            };
            let unit = family.unit.map(|unit| Unit::Other(unit.to_owned()));
            let mut encoder = encoder.encode_descriptor(
                family.base(),
                family.help,
                unit.as_ref(),
                family.kind.into(),
            )?;
            for (values, value) in samples {
                let labels: Vec<(&str, &str)> = family
                    .labels
                    .iter()
                    .copied()
                    .zip(values.iter().map(String::as_str))
                    .collect();
                match value {
                    Value::Info => encoder.encode_info(&labels)?,
                    Value::Gauge(value) if labels.is_empty() => encoder.encode_gauge(value)?,
                    value => value.encode(encoder.encode_family(&labels)?)?,
                }
            }
        }
        Ok(())
    }
}

impl From<Kind> for MetricType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::Counter,
            Kind::Gauge => Self::Gauge,
            Kind::Histogram => Self::Histogram,
            Kind::Info => Self::Info,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_family_is_there_once() {
        let names: BTreeSet<_> = FAMILIES.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), FAMILIES.len());
        for family in FAMILIES {
            assert!(family.sample().starts_with("pcn_"), "{}", family.name);
            assert!(!family.help.contains(['\n', '"', '\\']), "{}", family.name);
        }
    }

    #[test]
    fn rounds_are_counted() {
        let nowhere = Path::new("/dev/null/pcn");
        let metrics = Metrics::new(nowhere, nowhere);
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        for took in [3, 40, 90_000] {
            metrics.round(&a, RoundResult::Applied, Duration::from_millis(took));
        }
        metrics.round(&b, RoundResult::Stuck, Duration::from_secs(1));
        let text = metrics.encode(Some(&a)).unwrap();
        for line in [
            "# TYPE pcn_reconcile counter",
            "pcn_reconcile_total{topology=\"a\",result=\"applied\"} 3",
            "pcn_reconcile_total{topology=\"a\",result=\"rolledBack\"} 0",
            "pcn_apply_rollbacks_total{topology=\"a\"} 0",
            "# TYPE pcn_reconcile_duration_seconds histogram",
            "# UNIT pcn_reconcile_duration_seconds seconds",
            "pcn_reconcile_duration_seconds_count{topology=\"a\"} 3",
            "pcn_reconcile_duration_seconds_bucket{le=\"0.005\",topology=\"a\"} 1",
            "pcn_reconcile_duration_seconds_bucket{le=\"+Inf\",topology=\"a\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        assert!(text.ends_with("# EOF\n") && !text.contains("topology=\"b\""));
        let text = metrics.encode(None).unwrap();
        assert!(
            text.contains("pcn_apply_rollbacks_total{topology=\"b\"} 1\n"),
            "{text}"
        );
    }
}
