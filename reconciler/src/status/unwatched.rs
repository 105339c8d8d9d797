//! Cubes that need `pcn watch`, where none runs.

use topology_schema::{Name, Topology};

use super::Condition;
use crate::{address::Address, cube::driver_for, kernel::Kernel, wiring};

/// What stands still, for each cube of a topology that is or will be applied. A watch that was
/// killed counts as running for a second and a half.
pub fn unwatched(kernel: &mut dyn Kernel, topology: &Topology) -> Vec<String> {
    let mut found = Vec::new();
    for (name, cube) in &topology.spec.cubes {
        if let Some(what) = driver_for(cube.kind()).watched(cube)
            && !is_watched(kernel, name)
        {
            found.push(format!("{}: {what}", Address::cube(name)));
        }
    }
    found
}

fn is_watched(kernel: &mut dyn Kernel, cube: &Name) -> bool {
    let now = kernel.now();
    let entries = kernel.read(&wiring::table(cube, "listening"));
    let until = entries.ok().and_then(|entries| {
        let (_, values) = entries.into_iter().next()?;
        bytemuck::try_pod_read_unaligned::<u64>(values.first()?).ok()
    });
    until.is_some_and(|until| until > now)
}

/// There where something needs a watch: whether it has one.
pub(super) fn condition(kernel: &mut dyn Kernel, topology: &Topology) -> Option<Condition> {
    let needs = |cube: &topology_schema::Instance| driver_for(cube.kind()).watched(cube).is_some();
    if !topology.spec.cubes.values().any(needs) {
        return None;
    }
    let still = unwatched(kernel, topology);
    let (status, reason, message) = if still.is_empty() {
        ("True", "Running", "`pcn watch` runs".to_owned())
    } else {
        (
            "False",
            "NotRunning",
            format!("{}; start `pcn watch`", still.join("; ")),
        )
    };
    Some(Condition {
        kind: "Watched",
        status,
        reason,
        message,
        since: None,
    })
}
