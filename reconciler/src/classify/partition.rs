//! Which tuples a list of rules is divided into.
//!
//! Few tuples make a lookup short, and so do short buckets. The division begins with one tuple
//! that looks at nothing, and as long as buckets are crowded it gets the tuple that helps most of
//! the rules in them. It is kept, with the rules' numbers, while it is good enough: so a rule that
//! comes or goes moves no other one.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
};

use ebpf_abi::classifier::MAX_TUPLES;
use serde::{Deserialize, Serialize};

use super::{Family, rule::Compiled, template::Template};
use crate::parallel;

/// Rules that a bucket may have before something is done about it.
const CROWDED: usize = 8;
/// Rules that candidates are tried on, at most.
const SAMPLE: usize = 256;

/// The tuples of one list and family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Partition {
    /// Those that look at most first. A rule is in the first that it has keys for.
    pub templates: Vec<Template>,
    /// For how many rules it was made.
    rules: usize,
    /// How many rules were too many in their buckets then.
    excess: usize,
}

/// Where a rule is: its template, and the digests of its keys.
type Place = (Template, Vec<u64>);

impl Partition {
    /// For these rules: as before, if that is good enough.
    pub(super) fn new(rules: &[&Compiled], family: Family, before: Option<&Self>) -> Self {
        if let Some(before) = before.filter(|before| before.fits(rules, family)) {
            return before.clone();
        }
        let mut division = Division::new(rules, family, &[Template::default()]);
        while division.templates.len() < MAX_TUPLES {
            let Some(template) = division.helpful() else {
                break;
            };
            division.add(template);
        }
        division.drop_needless();
        Self {
            excess: division.excess(),
            rules: rules.len(),
            templates: division.templates,
        }
    }

    /// False if there are far more or fewer rules than it was made for, or they crowd.
    fn fits(&self, rules: &[&Compiled], family: Family) -> bool {
        let similar = |one: usize, other: usize| one <= other * 2 + CROWDED;
        similar(rules.len(), self.rules)
            && similar(self.rules, rules.len())
            && Division::new(rules, family, &self.templates).excess()
                <= self.excess * 2 + 2 * CROWDED
    }

    /// Where each rule is: its template's place in `templates`, and the digests of its keys.
    pub(super) fn place(&self, rules: &[&Compiled]) -> Vec<(usize, Vec<u64>)> {
        let of = |rule: &&Compiled| {
            let mut found = self.templates.iter().enumerate();
            found.find_map(|(at, template)| Some((at, template.digests(rule)?)))
        };
        let nowhere = (usize::MAX, Vec::new());
        parallel::map(rules, parallel::EACH, |rule| {
            of(rule).unwrap_or_else(|| nowhere.clone())
        })
    }
}

/// A division on its way.
struct Division<'a> {
    rules: &'a [&'a Compiled],
    family: Family,
    templates: Vec<Template>,
    places: Vec<Place>,
    /// How many rules are in each bucket.
    sizes: HashMap<u64, usize>,
}

impl<'a> Division<'a> {
    fn new(rules: &'a [&'a Compiled], family: Family, templates: &[Template]) -> Self {
        let mut this = Self {
            rules,
            family,
            templates: templates.to_vec(),
            places: vec![Place::default(); rules.len()],
            sizes: HashMap::new(),
        };
        let places = parallel::map(rules, parallel::EACH, |rule| this.place_of(rule));
        for (at, place) in places.into_iter().enumerate() {
            this.move_to(at, place);
        }
        this
    }

    /// What sorts templates: those that look at most come first.
    fn rank(&self, template: Template) -> Reverse<(u32, Template)> {
        Reverse((template.bits(self.family), template))
    }

    /// Where a rule belongs.
    fn place_of(&self, rule: &Compiled) -> Place {
        let mut templates = self.templates.iter();
        let found = templates.find_map(|template| Some((*template, template.digests(rule)?)));
        found.unwrap_or_default()
    }

    fn move_to(&mut self, at: usize, place: Place) {
        for digest in &place.1 {
            *self.sizes.entry(*digest).or_default() += 1;
        }
        let (_, left) = std::mem::replace(&mut self.places[at], place);
        for digest in left {
            if let Some(size) = self.sizes.get_mut(&digest) {
                *size -= 1;
            }
        }
    }

    fn add(&mut self, template: Template) {
        let rank = self.rank(template);
        let at = self
            .templates
            .partition_point(|other| self.rank(*other) < rank);
        self.templates.insert(at, template);
        let all: Vec<(&Compiled, &Place)> = self.rules.iter().copied().zip(&self.places).collect();
        let found = parallel::map(&all, parallel::EACH, |(rule, place)| {
            let moves = self.rank(place.0) > rank;
            moves.then(|| template.digests(rule)).flatten()
        });
        for (at, digests) in found.into_iter().enumerate() {
            if let Some(digests) = digests {
                self.move_to(at, (template, digests));
            }
        }
    }

    fn remove(&mut self, template: Template) {
        self.templates.retain(|other| *other != template);
        for at in 0..self.rules.len() {
            if self.places[at].0 == template {
                self.move_to(at, self.place_of(self.rules[at]));
            }
        }
    }

    /// How many rules are too many in their buckets.
    fn excess(&self) -> usize {
        let over = |size: &usize| size.saturating_sub(CROWDED);
        self.sizes.values().map(over).sum()
    }

    /// The size of the largest bucket that a rule is in.
    fn crowd(&self, at: usize) -> usize {
        let digests = self.places[at].1.iter();
        let sizes = digests.filter_map(|digest| self.sizes.get(digest));
        sizes.copied().max().unwrap_or(0)
    }

    /// The template that takes most rules out of crowds, if one does.
    fn helpful(&self) -> Option<Template> {
        let crowded: Vec<(&Compiled, usize)> = (0..self.rules.len())
            .map(|at| (self.rules[at], self.crowd(at)))
            .filter(|(_, crowd)| *crowd > CROWDED)
            .collect();
        let step = crowded.len().div_ceil(SAMPLE).max(1);
        let sample: Vec<_> = crowded.into_iter().step_by(step).collect();
        let mut best: Option<(usize, Template)> = None;
        for candidate in candidates(&sample) {
            if self.templates.contains(&candidate) {
                continue;
            }
            let gain = gain(candidate, &sample, step);
            if gain > best.map_or(0, |(gain, _)| gain) {
                best = Some((gain, candidate));
            }
        }
        best.map(|(_, template)| template)
    }

    /// Goes without templates whose rules can be elsewhere without making a crowd, the emptiest
    /// first. The one that looks at nothing stays: all rules have keys for it.
    fn drop_needless(&mut self) {
        let mut uses: HashMap<Template, usize> = HashMap::new();
        for (template, _) in &self.places {
            *uses.entry(*template).or_default() += 1;
        }
        let mut by_use = self.templates.clone();
        by_use.sort_by_key(|template| (uses.get(template).copied(), *template));
        by_use.retain(|template| *template != Template::default());
        for template in by_use {
            let allowed = self.excess();
            self.remove(template);
            if self.excess() > allowed {
                self.add(template);
            }
        }
    }
}

/// By how many rules crowds get smaller, over all rules that the template takes.
fn gain(template: Template, sample: &[(&Compiled, usize)], step: usize) -> usize {
    let mut groups: HashMap<u64, usize> = HashMap::new();
    let mut taken = Vec::new();
    for (rule, crowd) in sample {
        let Some(digests) = template.digests(rule) else {
            continue;
        };
        for digest in &digests {
            *groups.entry(*digest).or_default() += 1;
        }
        taken.push((digests, *crowd));
    }
    let after = |digests: &[u64]| {
        let sizes = digests.iter().filter_map(|digest| groups.get(digest));
        // One alone in the sample is taken for one alone.
        (sizes.copied().max().unwrap_or(1) - 1) * step + 1
    };
    taken
        .iter()
        .map(|(digests, crowd)| crowd.saturating_sub(after(digests)))
        .sum()
}

/// Templates that are worth trying: all combinations of lengths that rules of the sample have.
fn candidates(sample: &[(&Compiled, usize)]) -> BTreeSet<Template> {
    let finest: Vec<Template> = sample
        .iter()
        .map(|(rule, _)| Template::finest(rule))
        .collect();
    let lengths = |of: fn(&Template) -> u8| -> BTreeSet<u8> {
        let mut lengths: Vec<u8> = finest.iter().map(of).collect();
        lengths.sort_unstable();
        let at = |part: usize| lengths.get(lengths.len().saturating_sub(1) * part / 4);
        (0..=4).filter_map(at).copied().chain([0]).collect()
    };
    let mut candidates = BTreeSet::new();
    for source in lengths(|template| template.source) {
        for destination in lengths(|template| template.destination) {
            for protocol in lengths(|template| template.protocol) {
                for source_port in lengths(|template| template.source_port) {
                    for destination_port in lengths(|template| template.destination_port) {
                        candidates.insert(Template {
                            source,
                            destination,
                            protocol,
                            source_port,
                            destination_port,
                        });
                    }
                }
            }
        }
    }
    candidates
}
