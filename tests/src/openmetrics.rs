//! A strict reader of OpenMetrics 1.0 text: what it takes, every scraper takes.

use std::collections::{BTreeMap, BTreeSet};

/// Labels of a sample, sorted by name.
pub type Labels = BTreeMap<String, String>;

/// A text that was read.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Types by family.
    pub types: BTreeMap<String, String>,
    /// Values by name of the sample and labels.
    pub samples: BTreeMap<String, BTreeMap<Labels, f64>>,
}

impl Metrics {
    /// Reads a text; panics with what is wrong about it.
    #[track_caller]
    pub fn read(text: &str) -> Self {
        let body = text
            .strip_suffix("# EOF\n")
            .unwrap_or_else(|| panic!("it does not end with `# EOF`: {text}"));
        let mut metrics = Self::default();
        let mut family: Option<Family> = None;
        for line in body.lines() {
            match line.strip_prefix("# ") {
                Some(metadata) => metrics.metadata(metadata, &mut family),
                None => metrics.sample(line, family.as_ref().expect("a sample has a family")),
            }
        }
        metrics.check_histograms();
        metrics
    }

    /// The value of a sample.
    #[track_caller]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels)
            .unwrap_or_else(|| panic!("no {name}{labels:?} in {:#?}", self.samples.get(name)))
    }

    /// The value of a sample, if it is there.
    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        self.samples.get(name)?.get(&labels).copied()
    }

    fn metadata(&mut self, line: &str, family: &mut Option<Family>) {
        let (keyword, rest) = line.split_once(' ').expect("a keyword");
        let (name, value) = rest.split_once(' ').expect("a name and a value");
        check_name(name);
        if family.as_ref().is_none_or(|family| family.name != name) {
            assert!(
                !self.types.contains_key(name),
                "{name} is there twice, with others in between"
            );
            self.types.insert(name.to_owned(), String::new());
            *family = Some(Family::new(name));
        }
        let family = family.as_mut().expect("it was just made");
        assert!(
            family.seen.insert(keyword.to_owned()),
            "{keyword} twice: {line}"
        );
        match keyword {
            "HELP" => assert!(!value.is_empty(), "{line}"),
            "TYPE" => {
                let types = ["counter", "gauge", "histogram", "info"];
                assert!(types.contains(&value), "{line}");
                family.kind = value.to_owned();
                self.types.insert(name.to_owned(), value.to_owned());
            }
            "UNIT" => assert!(name.ends_with(&format!("_{value}")), "{line}"),
            _ => panic!("neither HELP nor TYPE nor UNIT: {line}"),
        }
    }

    fn sample(&mut self, line: &str, family: &Family) {
        let end = line.find(['{', ' ']).expect("a name ends");
        let (name, rest) = line.split_at(end);
        let suffix = name.strip_prefix(family.name.as_str());
        let suffix = suffix.unwrap_or_else(|| panic!("{name} in {}", family.name));
        let allowed: &[&str] = match family.kind.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_count", "_sum"],
            "info" => &["_info"],
            other => panic!("{name} before its TYPE: `{other}`"),
        };
        assert!(allowed.contains(&suffix), "{name} is no {}", family.kind);
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest),
            None => (Labels::new(), rest),
        };
        let value = value
            .strip_prefix(' ')
            .unwrap_or_else(|| panic!("no space: {line}"));
        let value: f64 = value
            .parse()
            .unwrap_or_else(|_| panic!("no number: {line}"));
        match family.kind.as_str() {
            "counter" => assert!(value >= 0.0, "{line}"),
            "info" => assert!(value == 1.0, "{line}"),
            _ => {}
        }
        let before = self
            .samples
            .entry(name.to_owned())
            .or_default()
            .insert(labels, value);
        assert!(before.is_none(), "twice: {line}");
    }

    /// Buckets are cumulative, and the last has all.
    fn check_histograms(&self) {
        let names = self.types.iter().filter(|(_, kind)| *kind == "histogram");
        for (name, _) in names {
            let mut series: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
            for (labels, count) in &self.samples[&format!("{name}_bucket")] {
                let mut labels = labels.clone();
                let bound = labels.remove("le").expect("a bucket has a bound");
                let bound = bound.replace("+Inf", "inf").parse().expect("a number");
                series.entry(labels).or_default().push((bound, *count));
            }
            for (labels, mut buckets) in series {
                buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
                assert!(
                    buckets.is_sorted_by(|a, b| a.1 <= b.1),
                    "{name}: {buckets:?}"
                );
                let last = buckets.last().expect("there are buckets");
                assert!(last.0.is_infinite(), "{name}: no +Inf");
                assert_eq!(last.1, self.samples[&format!("{name}_count")][&labels]);
                assert!(self.samples[&format!("{name}_sum")].contains_key(&labels));
            }
        }
    }
}

struct Family {
    name: String,
    kind: String,
    seen: BTreeSet<String>,
}

impl Family {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: String::new(),
            seen: BTreeSet::new(),
        }
    }
}

/// Labels after the brace, and what follows the closing one.
fn labels(mut rest: &str) -> (Labels, &str) {
    let mut labels = Labels::new();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return (labels, after);
        }
        if !labels.is_empty() {
            rest = rest.strip_prefix(',').expect("a comma between labels");
        }
        let (name, after) = rest.split_once("=\"").expect("a label has a value");
        check_name(name);
        let (value, after) = after.split_once('"').expect("a value ends");
        assert!(!value.contains('\\'), "nothing here needs escapes: {value}");
        assert!(
            labels.insert(name.to_owned(), value.to_owned()).is_none(),
            "{name} twice"
        );
        rest = after;
    }
}

#[track_caller]
fn check_name(name: &str) {
    let good = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let starts_well = name.starts_with(|letter: char| letter.is_ascii_lowercase());
    assert!(starts_well && name.chars().all(good), "a name: `{name}`");
}
