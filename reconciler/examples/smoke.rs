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
    let mut times: std::collections::BTreeMap<String, (u32, std::time::Duration)> = Default::default();
    let mut last: Option<(String, std::time::Instant)> = None;
    let report = reconcile::apply(&mut kernel, &plan, |_, step| {
        let now = std::time::Instant::now();
        if let Some((kind, start)) = last.take() { let e = times.entry(kind).or_default(); e.0 += 1; e.1 += now - start; }
        let mut kind = format!("{:?}", step.op); kind.truncate(kind.find(['(', ' ', '{']).unwrap_or(kind.len())); 
        if let reconciler::plan::Op::CreateMap(p, _) = &step.op { kind = format!("{kind} {}", p.name()); }
        if let reconciler::plan::Op::LoadProgram(_, p) = &step.op { kind = format!("{kind} {}", p.object); }
        last = Some((kind, now));
    }).unwrap();
    for (k, (n, d)) in &times { println!("{k}: {n} x {:?} = {d:?}", *d / *n); }
    println!("apply {:?}: {:?}", t.elapsed(), report);
}
