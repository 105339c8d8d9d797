//! Rules between the parts of a topology. Only this module makes a [`ValidTopology`].

mod addresses;
mod checks;
mod cubes;
mod interfaces;
mod links;
mod through;

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;

use crate::addr::MacAddr;
use crate::diagnostic::{Diagnostic, Diagnostics, Severity, Source};
use crate::parse::{Locations, parse_partially};
use crate::path::{Path, Segment};
use crate::suggest;
use crate::topology::Topology;

pub(crate) use addresses::{ConnectedNetworks, RouteCheck};
pub(crate) use cubes::CubeContext;

/// A topology that holds all the rules. Copies share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidTopology(Arc<Topology>);

impl ValidTopology {
    /// The topology, to look at.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.0
    }

    /// The topology, to keep.
    #[must_use]
    pub fn shared(&self) -> Arc<Topology> {
        Arc::clone(&self.0)
    }

    /// The topology, to change; it has to be validated again before it is worth anything.
    #[must_use]
    pub fn into_inner(self) -> Topology {
        Arc::unwrap_or_clone(self.0)
    }
}

impl Deref for ValidTopology {
    type Target = Topology;

    fn deref(&self) -> &Topology {
        &self.0
    }
}

/// Applies all rules. The diagnostics beside a valid topology are warnings.
///
/// # Errors
/// All problems, warnings among them, if there is any error.
pub fn validate(
    topology: impl Into<Arc<Topology>>,
    locations: &Locations<'_>,
) -> Result<(ValidTopology, Diagnostics), Diagnostics> {
    let topology = topology.into();
    let diagnostics = Diagnostics::new(check(&topology, locations, &[]));
    if diagnostics.has_errors() {
        Err(diagnostics)
    } else {
        Ok((ValidTopology(topology), diagnostics))
    }
}

/// Reads a topology and applies all rules. The diagnostics beside a valid topology are warnings.
///
/// # Errors
/// All problems at once: where the structure is wrong in one place, the rules are still applied to the rest.
pub fn load(source: &Source) -> Result<(ValidTopology, Diagnostics), Diagnostics> {
    let parsed = parse_partially(source);
    let mut diagnostics = parsed.problems;
    let Some(topology) = parsed.topology else {
        return Err(Diagnostics::new(diagnostics));
    };
    if diagnostics.is_empty() {
        return validate(topology, &parsed.locations);
    }
    diagnostics.extend(check(&topology, &parsed.locations, &parsed.damaged));
    Err(Diagnostics::new(diagnostics))
}

fn check(topology: &Topology, locations: &Locations<'_>, damaged: &[Path]) -> Vec<Diagnostic> {
    let mut checker = Checker {
        locations,
        damaged,
        diagnostics: Vec::new(),
        suggestions: MAX_COMPARISONS,
        errors: 0,
        warnings: 0,
    };
    let wiring = links::check(topology, &mut checker);
    cubes::check(topology, &wiring, &mut checker);
    through::check(topology, &mut checker);
    interfaces::check(topology, &wiring, &mut checker);
    checks::check(topology, &mut checker);
    checker.finish()
}

/// Most comparisons of words that one validation spends on suggestions.
const MAX_COMPARISONS: usize = 200_000;

/// Most errors, and most warnings, that the rules report about one document.
const MAX_FINDINGS: usize = 10_000;

/// Collects what the rules find.
pub(crate) struct Checker<'a> {
    locations: &'a Locations<'a>,
    damaged: &'a [Path],
    diagnostics: Vec<Diagnostic>,
    suggestions: usize,
    errors: usize,
    warnings: usize,
}

impl Checker<'_> {
    /// Adds a problem, with the place of its path.
    pub(crate) fn report(&mut self, mut diagnostic: Diagnostic) {
        let count = match diagnostic.severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        *count += 1;
        if *count <= MAX_FINDINGS {
            diagnostic.path = self.written(&diagnostic.path);
            let location = self.locations.locate(&diagnostic.path);
            self.diagnostics.push(diagnostic.at(location));
        }
    }

    /// The path as it is in the document: where items of a list were left out, those behind them have moved up.
    fn written(&self, path: &Path) -> Path {
        if self.damaged.is_empty() {
            return path.clone();
        }
        path.segments()
            .iter()
            .fold(Path::root(), |around, segment| {
                let Segment::Index(index) = segment else {
                    return around.then(segment.clone());
                };
                let left_out = self
                    .damaged
                    .iter()
                    .filter_map(|damaged| damaged.index_in(&around));
                let written = left_out.collect::<BTreeSet<usize>>().into_iter().fold(
                    *index,
                    |index, gone| {
                        if gone <= index { index + 1 } else { index }
                    },
                );
                around.index(written)
            })
    }

    fn finish(mut self) -> Vec<Diagnostic> {
        let message = |what| format!("there are too many {what}; {MAX_FINDINGS} are shown");
        if self.errors > MAX_FINDINGS {
            self.diagnostics.push(Diagnostic::error(
                "too-many-problems",
                &Path::root(),
                message("errors"),
            ));
        }
        if self.warnings > MAX_FINDINGS {
            self.diagnostics.push(Diagnostic::warning(
                "too-many-problems",
                &Path::root(),
                message("warnings"),
            ));
        }
        self.diagnostics
    }

    /// Adds a problem that is about something not being there.
    ///
    /// It is dropped if what it depends on could not be decoded in full: then the thing may well be there.
    pub(crate) fn absent(&mut self, depends_on: &[&Path], diagnostic: Diagnostic) {
        let damaged = |path: &&Path| {
            self.damaged
                .iter()
                .any(|damaged| damaged.is_related_to(path))
        };
        if !depends_on.iter().any(damaged) {
            self.report(diagnostic);
        }
    }

    /// A path with its line, to refer to from elsewhere.
    pub(crate) fn refer_to(&self, path: &Path) -> String {
        let path = self.written(path);
        match self.locations.locate(&path) {
            Some(location) => format!("{path} on line {}", location.line),
            None => path.to_string(),
        }
    }

    /// The candidate that a misspelt name most likely stands for.
    pub(crate) fn closest<'n>(
        &mut self,
        word: &str,
        candidates: impl ExactSizeIterator<Item = &'n str>,
    ) -> Option<&'n str> {
        self.suggestions = self.suggestions.checked_sub(candidates.len())?;
        suggest::closest(word, candidates)
    }

    /// An address that a host is to have must be one that a host can have.
    pub(crate) fn unicast(&mut self, mac: Option<MacAddr>, path: impl FnOnce() -> Path) {
        let Some(mac) = mac.filter(|mac| !mac.is_unicast()) else {
            return;
        };
        let what = if mac == MacAddr([0; 6]) {
            "is all zero"
        } else {
            "is a group address"
        };
        let diagnostic = Diagnostic::error(
            "multicast-mac",
            &path(),
            format!("{mac} {what}, but one host must own it"),
        );
        self.report(
            diagnostic.help("the first byte of such an address is even: 02:00:00:00:00:01"),
        );
    }

    /// More than a cube can hold.
    pub(crate) fn limit(&mut self, what: &str, count: usize, limit: usize, path: &Path) {
        if count > limit {
            self.report(Diagnostic::error(
                "limit-exceeded",
                path,
                format!("{count} {what} are more than the limit of {limit}"),
            ));
        }
    }
}
