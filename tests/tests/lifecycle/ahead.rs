//! What an apply makes before its step comes: the host does not feel it, and it leaves nothing.

use integration_tests::{
    command::run,
    lab::{Lab, Station, run_test},
    traffic::ping,
    wait,
};
use reconciler::{
    interrupt::Interrupt,
    kernel::{
        Kernel as _,
        linux::{LinuxKernel, bpf},
    },
    plan::Op,
    reconcile::{self, Report},
};
use topology_schema::{Source, ValidTopology, load};

use crate::ip;

/// `BPF_TCX_INGRESS`
const INGRESS: u32 = 46;

const BRIDGE: &str = "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: early }
spec:
  cubes: { br: { bridge: {} } }
  interfaces: { near: {} }
  links: [[br:one, near]]
";

fn bridge() -> ValidTopology {
    let source = Source {
        name: "early.yaml".to_owned(),
        text: BRIDGE.to_owned(),
    };
    load(&source).expect("it is valid").0
}

fn attached() -> Vec<u32> {
    let index = nix::net::if_::if_nametoindex("near").expect("it is there");
    bpf::attached(index, INGRESS).expect("the kernel says what is attached")
}

/// A host that reaches the lab itself through `near`, and the kernel for the topology.
fn begin(lab: &Lab) -> (Station, LinuxKernel) {
    let host = Station::new("far", "near", &["10.5.0.2/24"]);
    run("ip address add 10.5.0.1/24 dev near").expect(0);
    let root = lab.pin("");
    let kernel = LinuxKernel::new("early".parse().expect("a name"), &root).expect("a kernel");
    (host, kernel)
}

#[test]
fn a_plan_that_is_given_up_leaves_nothing() {
    run_test(|lab| {
        let (host, mut kernel) = begin(lab);
        let plan = reconcile::plan(&mut kernel, &bridge()).expect("a plan");
        kernel.prepare(&plan.steps);
        let program = wait::until("something to be attached", || attached().first().copied());
        // It lets the host's packets pass, and has no pin.
        assert_eq!(ping(&host, ip("10.5.0.1")), 64);
        assert_eq!(lab.ids().len(), 0);
        kernel.prepare(&[]);
        assert_eq!(attached(), Vec::<u32>::new());
        // The same plan can be carried out afterwards, and has programs of its own.
        let report = reconcile::apply(&mut kernel, &plan, &Interrupt::default(), |_, _| ());
        assert!(matches!(report, Ok(Report::Applied { .. })), "{report:?}");
        assert_eq!(attached().len(), 1);
        assert_ne!(attached(), vec![program]);
        lab.assert_converged(BRIDGE);
    });
}

#[test]
fn what_was_made_ahead_is_what_another_plan_would_make() {
    run_test(|lab| {
        let (_host, mut kernel) = begin(lab);
        let plan = reconcile::plan(&mut kernel, &bridge()).expect("a plan");
        let apply = |kernel: &mut LinuxKernel| {
            for step in &plan.steps {
                kernel.apply(&step.op).expect("each step is possible");
            }
        };
        // Without having heard of it, step by step.
        apply(&mut kernel);
        let alone = lab.ids();
        lab.assert_converged(BRIDGE);
        lab.pcn("destroy --yes early").expect(0);
        // And with all of it made ahead, by a process that has not seen what was removed.
        let root = lab.pin("");
        let mut kernel =
            LinuxKernel::new("early".parse().expect("a name"), &root).expect("a kernel");
        kernel.prepare(&plan.steps);
        apply(&mut kernel);
        kernel.prepare(&[]);
        assert!(lab.ids().keys().eq(alone.keys()));
        lab.assert_converged(BRIDGE);
    });
}

#[test]
fn what_was_foreseen_is_used_only_if_it_comes() {
    run_test(|lab| {
        let (host, mut kernel) = begin(lab);
        let plan = reconcile::plan(&mut kernel, &bridge()).expect("a plan");
        // Programs are begun on tables that turn out to have more room, or on those that come.
        let mut other = plan.steps.clone();
        for step in &mut other {
            if let Op::CreateMap(_, map) = &mut step.op {
                map.shape.max_entries *= 2;
            }
        }
        let root = lab.pin("");
        // Each time by a process that has not seen what was removed.
        let kernel =
            || LinuxKernel::new("early".parse().expect("a name"), &root).expect("a kernel");
        for foreseen in [&other, &plan.steps] {
            let mut kernel = kernel();
            kernel.foresee(foreseen);
            assert_eq!(attached(), Vec::<u32>::new());
            assert_eq!(lab.ids().len(), 0);
            assert_eq!(ping(&host, ip("10.5.0.1")), 64);
            let report = reconcile::apply(&mut kernel, &plan, &Interrupt::default(), |_, _| ());
            assert!(matches!(report, Ok(Report::Applied { .. })), "{report:?}");
            lab.assert_converged(BRIDGE);
            lab.pcn("destroy --yes early").expect(0);
        }
        // What is foreseen and never decided is gone with the plan.
        let mut kernel = kernel();
        kernel.foresee(&plan.steps);
        drop(kernel);
        assert_eq!((attached(), lab.ids().len()), (Vec::new(), 0));
    });
}
