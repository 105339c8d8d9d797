//! The laws of the reconciler, on random topologies and a kernel in memory: converge, idempotent,
//! undo, crash, minimal.

use std::collections::BTreeSet;

#[path = "support/shape.rs"]
mod shape;

use proptest::prelude::*;
use reconciler::{
    execute::{Outcome, execute},
    interrupt::Interrupt,
    kernel::{
        self, Kernel,
        fault::{Fault, FaultyKernel},
    },
    observed::Observed,
    plan::{Op, Phase},
    reconcile::{Plan, Report, apply, plan, plan_removal},
};
use shape::{applied, host, shape};
use topology_schema::{InterfaceName, ValidTopology};

/// Plans and executes, whatever comes of it.
fn round(kernel: &mut dyn Kernel, topology: &ValidTopology) -> kernel::Result<Report> {
    let made = plan(kernel, topology)?;
    apply(kernel, &made, &Interrupt::default(), |_, _| ())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn converge_and_idempotent(before in shape(), after in shape()) {
        let (before, after) = (before.topology(), after.topology());
        let mut kernel = host();
        for topology in [&before, &after, &before] {
            applied(&mut kernel, topology);
            let again = plan(&mut kernel, topology).expect("a plan");
            prop_assert!(again.steps.is_empty(), "steps after an apply: {:#?}", again.steps);
            prop_assert!(again.changes.is_empty(), "changes after an apply: {:#?}", again.changes);
            let changed = kernel.history.len();
            applied(&mut kernel, topology);
            prop_assert_eq!(kernel.history.len(), changed, "an apply without changes did something");
        }
    }

    #[test]
    fn the_way_back_leaves_nothing(shape in shape()) {
        let mut kernel = host();
        let empty = kernel.state().clone();
        applied(&mut kernel, &shape.topology());
        let removal = plan_removal(&mut kernel).expect("a plan");
        let report = apply(&mut kernel, &removal, &Interrupt::default(), |_, _| ()).expect("an apply");
        let done = matches!(&report, Report::Applied { left } if left.is_empty());
        prop_assert!(done, "{:?}", report);
        prop_assert_eq!(kernel.state().clone(), empty);
    }

    #[test]
    fn a_failure_anywhere_is_undone(before in shape(), after in shape(), at in any::<prop::sample::Index>()) {
        let mut kernel = host();
        applied(&mut kernel, &before.topology());
        let made = plan(&mut kernel, &after.topology()).expect("a plan");
        let critical = made.steps.iter().filter(|step| step.phase != Phase::CleanUp).count();
        prop_assume!(critical > 0);
        // Pairs whose far end is lost are taken down first, for good; nothing was lost here.
        let state = kernel.state().clone();
        let mut kernel = FaultyKernel::new(kernel, Some((at.index(critical), Fault::Refused)));
        let outcome = execute(&mut kernel, &made.steps, &Interrupt::default(), |_, _| ());
        let rolled_back = matches!(outcome, Outcome::RolledBack { .. });
        prop_assert!(rolled_back, "{:?}", outcome);
        let now = kernel.into_inner().state().clone();
        prop_assert_eq!(same_but_link_ids(&now), same_but_link_ids(&state));
    }

    #[test]
    fn any_fault_anywhere_is_survived(
        before in shape(),
        after in shape(),
        at in any::<prop::sample::Index>(),
        fault in prop::sample::select(&Fault::ALL[..]),
    ) {
        let (before, after) = (before.topology(), after.topology());
        let mut ready = host();
        applied(&mut ready, &before);
        let mut calm = FaultyKernel::new(ready.clone(), None);
        round(&mut calm, &after).expect("an apply");
        let calls = calm.calls;
        let expected = inventory(calm.into_inner().state());
        let mut kernel = FaultyKernel::new(ready, Some((at.index(calls), fault)));
        // How it ends is for the tests of faults; here is what comes after.
        let _ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| round(&mut kernel, &after)));
        let mut kernel = kernel.into_inner();
        applied(&mut kernel, &after);
        let again = plan(&mut kernel, &after).expect("a plan");
        prop_assert!(again.is_empty(), "steps after recovery: {:#?}", again.steps);
        prop_assert_eq!(inventory(kernel.state()), expected);
    }

    #[test]
    fn a_crash_anywhere_is_survived(before in shape(), after in shape(), at in any::<prop::sample::Index>()) {
        let (before, after) = (before.topology(), after.topology());
        let mut kernel = host();
        applied(&mut kernel, &before);
        let made = plan(&mut kernel, &after).expect("a plan");
        prop_assume!(!made.steps.is_empty());
        for step in &made.steps[..at.index(made.steps.len())] {
            kernel.apply(&step.op).expect("a step");
        }
        applied(&mut kernel, &after);
        let again = plan(&mut kernel, &after).expect("a plan");
        prop_assert!(again.steps.is_empty(), "steps after recovery: {:#?}", again.steps);
        // Nothing is left beside what is there without the crash.
        let mut calm = host();
        applied(&mut calm, &before);
        applied(&mut calm, &after);
        prop_assert_eq!(inventory(kernel.state()), inventory(calm.state()));
    }

    #[test]
    fn what_does_not_change_keeps_its_id(before in shape(), after in shape()) {
        let mut kernel = host();
        applied(&mut kernel, &before.topology());
        let old = kernel.state().clone();
        let made = applied(&mut kernel, &after.topology());
        let touched = touched(&made);
        let new = kernel.state();
        for (path, program) in &old.programs {
            if let Some(now) = new.programs.get(path).filter(|_| !touched.contains(path.as_str())) {
                prop_assert_eq!(program.id, now.id);
            }
        }
        for (path, map) in &old.maps {
            if let Some(now) = new.maps.get(path).filter(|_| !touched.contains(path.as_str())) {
                prop_assert_eq!(map.id, now.id);
            }
        }
        // A program is loaded again only when what goes into it differs.
        for (path, program) in &old.programs {
            if touched.contains(path.as_str()) && let Some(now) = new.programs.get(path) {
                prop_assert_ne!(&program.fingerprint, &now.fingerprint, "{} was loaded again for nothing", path);
            }
        }
    }

    #[test]
    fn the_same_input_gives_the_same_plan(before in shape(), after in shape()) {
        let mut kernel = host();
        applied(&mut kernel, &before.topology());
        let first = plan(&mut kernel, &after.topology()).expect("a plan");
        let second = plan(&mut kernel, &after.topology()).expect("a plan");
        prop_assert_eq!(format!("{first:?}"), format!("{second:?}"));
    }

    #[test]
    fn interfaces_come_and_go(shape in shape()) {
        let topology = shape.topology();
        let mut kernel = host();
        applied(&mut kernel, &topology);
        for name in ["wire0", "wan0", "alone0"] {
            let name: InterfaceName = name.parse().expect("a name");
            kernel.unplug(&name);
            applied(&mut kernel, &topology);
            prop_assert!(plan(&mut kernel, &topology).expect("a plan").is_empty());
            kernel.plug(name);
            applied(&mut kernel, &topology);
            prop_assert!(plan(&mut kernel, &topology).expect("a plan").is_empty());
        }
    }
}

/// What a carrier that goes changes, it changes back when it comes: tables, and nothing else.
#[test]
fn carriers_come_and_go() {
    let config = ProptestConfig {
        cases: 32,
        ..ProptestConfig::default()
    };
    proptest!(config, |(shape in shape())| {
        let topology = shape.topology();
        let mut kernel = host();
        applied(&mut kernel, &topology);
        let before = kernel.state().clone();
        for name in ["wire9", "wan0"] {
            let name: InterfaceName = name.parse().expect("a name");
            let mut carrier = |carrier| {
                let interface = kernel.state_mut().interfaces.get_mut(&name).expect("it is there");
                interface.carrier = carrier;
                let made = applied(&mut kernel, &topology);
                let writes = |op: &Op| matches!(op, Op::WriteEntries { .. } | Op::WriteRecord(_) | Op::MarkRecord { .. });
                prop_assert!(made.steps.iter().all(|step| writes(&step.op)), "{:#?}", made.steps);
                prop_assert!(plan(&mut kernel, &topology).expect("a plan").is_empty());
                Ok(())
            };
            carrier(false)?;
            carrier(true)?;
            prop_assert_eq!(kernel.state(), &before);
        }
    });
}

/// Ids of links that were detached and attached again differ; where they lead does not.
fn same_but_link_ids(state: &Observed) -> Observed {
    let mut state = state.clone();
    state.links.values_mut().for_each(|link| link.id = 0);
    state
}

/// Everything by name, without ids and values.
fn inventory(state: &Observed) -> [Vec<String>; 5] {
    fn names<T: ToString>(names: impl Iterator<Item = T>) -> Vec<String> {
        names.map(|name| name.to_string()).collect()
    }
    [
        names(state.programs.keys()),
        names(state.maps.keys()),
        names(state.links.keys()),
        names(state.veths.keys()),
        names(state.namespaces.keys()),
    ]
}

/// Objects that a plan makes anew.
fn touched(plan: &Plan) -> BTreeSet<String> {
    plan.steps
        .iter()
        .filter_map(|step| match &step.op {
            Op::Rename { to, .. } => Some(to.to_string()),
            Op::LoadProgram(path, _) | Op::CreateMap(path, _) | Op::Unpin(path) => {
                Some(path.to_string())
            }
            _ => None,
        })
        .collect()
}
