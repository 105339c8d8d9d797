//! What two versions have alike, and what not.

use proptest::{collection::vec, prelude::*};
use topology_schema::{Source, load};

use super::*;
use crate::change::{between, wanted};

/// Some rules and routes out of a few. Routes may share their network.
fn topology(rules: &[usize], routes: &[usize]) -> Topology {
    let rule = |rule: &usize| {
        let name = format!("r{}", rule / 2);
        let port = 1000 + rule;
        format!("{{ name: {name}, protocol: tcp, destinationPort: {port}, action: drop }}")
    };
    let route = |route: &usize| {
        let (network, next_hop) = (route / 3, route % 3 + 2);
        format!("{{ to: 10.9.{network}.0/24, via: 10.0.0.{next_hop} }}")
    };
    let mut seen = BTreeSet::new();
    let rules: Vec<String> = rules
        .iter()
        .filter(|rule| seen.insert(*rule / 2))
        .map(rule)
        .collect();
    let mut seen = BTreeSet::new();
    let routes: Vec<String> = routes
        .iter()
        .filter(|route| seen.insert(**route))
        .map(route)
        .collect();
    let text = format!(
        "apiVersion: pcn.dev/v1alpha1\nkind: Topology\nmetadata: {{ name: t }}\nspec:\n  cubes:\n    \
         fw: {{ firewall: {{ sessions: 2048, ingress: {{ rules: [{}] }} }} }}\n    \
         r: {{ router: {{ ports: {{ a: {{ addresses: [10.0.0.1/24], through: [fw] }} }}, routes: [{}] }} }}\n",
        rules.join(", "),
        routes.join(", ")
    );
    let source = Source {
        name: "t.yaml".to_owned(),
        text,
    };
    match load(&source) {
        Ok((topology, _)) => topology.into_inner(),
        Err(problems) => panic!("{}", problems.render(&source)),
    }
}

proptest! {
    /// What both have alike makes no difference, whether it is looked at or not.
    #[test]
    fn what_is_alike_makes_no_difference(
        rules in [vec(0_usize..12, 0..8), vec(0_usize..12, 0..8)],
        routes in [vec(0_usize..12, 0..8), vec(0_usize..12, 0..8)],
    ) {
        let old = topology(&rules[0], &routes[0]);
        let new = topology(&rules[1], &routes[1]);
        let (before, after) = facts_of_both(Some(&old), Some(&new));
        prop_assert_eq!(wanted(before, after), wanted(facts(&old), facts(&new)));
    }
}

proptest! {
    /// A cube that comes, goes or becomes another kind is shown with all that its facts say, in their order.
    #[test]
    fn a_whole_cube_says_all_its_facts(rules in vec(0_usize..60, 0..30), routes in vec(0_usize..40, 0..20)) {
        let mut new = topology(&rules, &routes);
        new.spec.cubes.values_mut().for_each(|cube| cube.drift = Some(Drift::Warn));
        let mut other = new.clone();
        let mut cubes = other.spec.cubes.values_mut();
        if let (Some(one), Some(another)) = (cubes.next(), cubes.next()) {
            std::mem::swap(one, another);
        }
        for (old, new) in [(None, Some(&new)), (Some(&new), None), (Some(&new), Some(&other))] {
            let all = |topology: Option<&Topology>| topology.map(facts).unwrap_or_default();
            let (short, long) = (between(old, new), wanted(all(old), all(new)));
            prop_assert_eq!(&short, &long);
            prop_assert_eq!(text(&short), text(&long));
        }
    }
}

#[test]
fn only_what_differs_is_looked_at() {
    let many: Vec<usize> = (0..250).map(|route| route * 3).collect();
    let mut fewer = many.clone();
    fewer.remove(150);
    let (before, after) = facts_of_both(Some(&topology(&[], &many)), Some(&topology(&[], &fewer)));
    let routes = |facts: &Facts| {
        facts
            .keys()
            .filter(|key| key.as_str().contains("routes/"))
            .count()
    };
    assert_eq!((routes(&before), routes(&after)), (1, 0));
}

/// What is not a setting changes alone: both sides are still shown with all that they are.
#[test]
fn only_drift_differs() {
    let old = topology(&[1], &[1]);
    let mut new = old.clone();
    let cubes = new.spec.cubes.values_mut();
    cubes.for_each(|cube| cube.drift = Some(Drift::Warn));
    let (before, after) = facts_of_both(Some(&old), Some(&new));
    let changes = wanted(before, after);
    assert_eq!(changes, wanted(facts(&old), facts(&new)));
    assert_eq!(changes.len(), 2);
}
