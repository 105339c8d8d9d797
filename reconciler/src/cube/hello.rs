//! Driver of `hello`: the one to copy for a standard cube.

use std::collections::BTreeMap;

use ebpf_abi::hello::Settings;
use topology_schema::{Cube, cube::hello::Action};

use super::{Context, CubeDriver, Lowered};
use crate::resource::Template;

pub(super) struct Driver;

impl CubeDriver for Driver {
    fn object(&self) -> &'static str {
        "hello"
    }

    fn lower(&self, context: &Context<'_>) -> Lowered {
        let Cube::Hello(spec) = context.cube else {
            return Lowered::default();
        };
        let ports: Vec<u32> = context
            .linked_ports()
            .into_iter()
            .map(|(_, index)| index)
            .collect();
        let first = ports.first().copied().unwrap_or(0);
        let settings = Settings {
            forward: u32::from(spec.action == Action::Forward),
            ports: [first, ports.get(1).copied().unwrap_or(first)],
        };
        Lowered {
            tables: Vec::new(),
            globals: BTreeMap::from([("SETTINGS", Template::plain(bytemuck::bytes_of(&settings)))]),
        }
    }
}
