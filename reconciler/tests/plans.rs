//! Plans in all forms, from topologies in `plans/CASE`, against a kernel in memory.
//!
//! `before.yaml` is what was applied (nothing without it), `after.yaml` what is wanted (nothing
//! without it). The host has the interfaces `eth0` and `eth1`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/golden.rs"]
mod golden;

use std::{fs, path::Path};

use reconciler::{
    cli::render::{self, View},
    interrupt::Interrupt,
    kernel::{Kernel, fake::FakeKernel},
    reconcile::{self, Plan, Report},
    resource::PinPath,
    status,
};
use topology_schema::{Source, ValidTopology, load};

const HOST: [&str; 2] = ["eth0", "eth1"];

#[test]
fn plans() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let mut cases: Vec<_> = fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    assert!(cases.len() >= 10);
    golden::all(cases.iter().flat_map(|case| {
        let plan = plan(case);
        let warnings = match read(&case.join("after.yaml")) {
            Some((source, (_, warnings))) => warnings.to_json(&source.name),
            None => Vec::<()>::new()
                .into_iter()
                .map(|()| String::new())
                .collect(),
        };
        let view = View {
            warnings,
            ..View::new(&plan)
        };
        let text = anstream::adapter::strip_str(&render::text(&view)).to_string();
        // The same value decides the text and the exit code.
        assert_eq!(
            text != "No changes.\n",
            plan.differs(),
            "{}",
            case.display()
        );
        assert_eq!(
            text.starts_with("No changes.\n"),
            plan.is_empty(),
            "{}",
            case.display()
        );
        [
            golden::compare(&case.join("plan.txt"), &text),
            golden::compare(
                &case.join("plan.json"),
                &format!("{:#}\n", render::json(&view)),
            ),
            golden::compare(&case.join("plan.md"), &render::markdown(&view)),
        ]
    }));
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans/create");
    let render = || {
        let plan = plan(&case);
        let view = View::new(&plan);
        (
            render::text(&view),
            render::json(&view).to_string(),
            render::markdown(&view),
            format!("{:?}", plan.steps),
        )
    };
    assert_eq!(render(), render());
}

#[test]
fn an_applied_plan_leaves_nothing_to_do() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    for entry in fs::read_dir(root).unwrap() {
        let case = entry.unwrap().path();
        let mut kernel = kernel(&case);
        let plan = make(&mut kernel, &case);
        let report =
            reconcile::apply(&mut kernel, &plan, &Interrupt::default(), |_, _| {}).unwrap();
        assert!(
            matches!(report, Report::Applied { .. }),
            "{}: {report:?}",
            case.display()
        );
        let again = make(&mut kernel, &case);
        assert!(again.is_empty(), "{}: {:?}", case.display(), again.changes);
    }
}

/// What is shown agrees with what a plan finds.
#[test]
fn status_agrees_with_the_plan() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    golden::all(
        [
            "create",
            "drift-attachment",
            "interface-pending-still",
            "removed",
        ]
        .into_iter()
        .map(|name| {
            let case = root.join(name);
            let mut kernel = kernel(&case);
            if name == "create" {
                let plan = make(&mut kernel, &case);
                reconcile::apply(&mut kernel, &plan, &Interrupt::default(), |_, _| {}).unwrap();
            }
            let status = status::status(&mut kernel).unwrap().unwrap();
            let text = anstream::adapter::strip_str(&render::status::text(&status)).to_string();
            let json = serde_json::to_value(&status).unwrap();
            golden::compare(&case.join("show.txt"), &text)
                .and_then(|()| golden::compare(&case.join("show.json"), &format!("{json:#}\n")))
        }),
    );
}

#[test]
fn status_of_nothing_is_nothing() {
    let mut kernel = FakeKernel::new("gateway".parse().unwrap(), []);
    assert!(status::status(&mut kernel).unwrap().is_none());
}

fn read(path: &Path) -> Option<(Source, (ValidTopology, topology_schema::Diagnostics))> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    let source = Source {
        name,
        text: fs::read_to_string(path).ok()?,
    };
    let loaded = load(&source).unwrap_or_else(|problems| panic!("{}", problems.render(&source)));
    Some((source, loaded))
}

fn topology(path: &Path) -> Option<ValidTopology> {
    read(path).map(|(_, (topology, _))| topology)
}

fn plan(case: &Path) -> Plan {
    make(&mut kernel(case), case)
}

fn make(kernel: &mut FakeKernel, case: &Path) -> Plan {
    match topology(&case.join("after.yaml")) {
        Some(wanted) => reconcile::plan(kernel, &wanted).unwrap(),
        None => reconcile::plan_removal(kernel).unwrap(),
    }
}

/// The kernel before the plan: with what was applied, and what happened to it since.
fn kernel(case: &Path) -> FakeKernel {
    let before = topology(&case.join("before.yaml"));
    let any = before
        .clone()
        .or_else(|| topology(&case.join("after.yaml")))
        .unwrap();
    let interfaces = HOST.iter().map(|name| name.parse().unwrap());
    let mut kernel = FakeKernel::new(any.topology().metadata.name.clone(), interfaces);
    if let Some(before) = before {
        let plan = reconcile::plan(&mut kernel, &before).unwrap();
        assert!(matches!(
            reconcile::apply(&mut kernel, &plan, &Interrupt::default(), |_, _| {}).unwrap(),
            Report::Applied { .. }
        ));
    }
    happen(&mut kernel, case.file_name().unwrap().to_str().unwrap());
    kernel
}

/// What others did to the kernel.
fn happen(kernel: &mut FakeKernel, case: &str) {
    match case {
        "drift-entry" | "drift-and-change" | "drift-warn" | "drift-ignored" => {
            let routes = PinPath::new(&["cubes", "r1", "routes_v4"]);
            let entries = kernel
                .state_mut()
                .maps
                .get_mut(&routes)
                .unwrap()
                .entries
                .as_mut()
                .unwrap();
            // 192.0.2.0/24 goes, 198.51.100.0/24 comes.
            let key = |prefix: [u8; 4]| [24u32.to_ne_bytes(), prefix].concat();
            let (old, new) = (key([192, 0, 2, 0]), key([198, 51, 100, 0]));
            let value = entries.get(&old).unwrap().to_owned();
            entries.remove(&old);
            entries.insert(&new, &value);
        }
        "drift-attachment" => {
            let links = &mut kernel.state_mut().links;
            links.retain(|path, _| path.name() != "link-tc-egress");
            assert_eq!(links.len(), 1);
        }
        "interface-appears" => {
            for name in ["eth8", "eth9"] {
                kernel.plug(name.parse().unwrap());
            }
        }
        "interrupted" => {
            let state = kernel.state_mut();
            let path = PinPath::new(&["cubes", "br1", "program-tc"]);
            let program = state.programs[&path].clone();
            state.programs.insert(path.staged(), program);
            assert!(kernel.record().unwrap().is_some());
        }
        _ => {}
    }
}
