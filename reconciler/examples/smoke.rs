use reconciler::{kernel::linux::LinuxKernel, reconcile};
use topology_schema::{Source, load};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let root = std::path::Path::new("/sys/fs/bpf/pcn-smoke");
    let text = std::fs::read_to_string(&args[2]).unwrap();
    let source = Source { name: args[2].clone(), text };
    let (topology, _) = load(&source).map_err(|e| e.render(&source)).unwrap();
    let name = topology.topology().metadata.name.clone();
    let mut kernel = LinuxKernel::new(name, root).unwrap();
    let t = std::time::Instant::now();
    let plan = if args[1] == "destroy" { reconcile::plan_removal(&mut kernel).unwrap() } else { reconcile::plan(&mut kernel, &topology).unwrap() };
    println!("plan {:?}: {} steps", t.elapsed(), plan.steps.len());
    for change in plan.changes.changes.iter().chain(&plan.changes.drift) { println!("{:?} {} {} [{}]", change.action, change.address, change.reason, change.disruption); }
    for p in &plan.changes.pending { println!("pending {} {}", p.address, p.reason); }
    if args[1] == "steps" { for s in &plan.steps { println!("{:?} {} {:?}", s.phase, s.address, s.op); } return; }
    if args[1] == "plan" { return; }
    let t = std::time::Instant::now();
    let report = reconcile::apply(&mut kernel, &plan, |_, _| ()).unwrap();
    println!("apply {:?}: {:?}", t.elapsed(), report);
}
