//! Driver of `helloTransparent`: the one to copy for a transparent cube.

use std::collections::BTreeMap;

use ebpf_abi::hello_transparent::Settings;
use topology_schema::{Cube, cube::hello_transparent::Action};

use super::{Context, CubeDriver, Lowered};
use crate::resource::Template;

pub(super) struct Driver;

impl CubeDriver for Driver {
    fn object(&self) -> &'static str {
        "hello_transparent"
    }

    fn lower(&self, context: &Context<'_>) -> Lowered {
        let Cube::HelloTransparent(spec) = context.cube else {
            return Lowered::default();
        };
        let settings = Settings {
            drop: [spec.ingress_action, spec.egress_action]
                .map(|action| u32::from(action == Action::Drop)),
        };
        Lowered {
            tables: Vec::new(),
            globals: BTreeMap::from([("SETTINGS", Template::plain(bytemuck::bytes_of(&settings)))]),
        }
    }
}
