//! Driver of `forwarder`.

use ebpf_abi::forwarder::{ACTION_DROP, action_forward};
use topology_schema::{Cube, cube::forwarder::Action};

use super::{Context, CubeDriver, Lowered, Table, index};
use crate::{resource::MapKind, rows::Rows};

pub(super) struct Driver;

impl CubeDriver for Driver {
    fn object(&self) -> &'static str {
        "forwarder"
    }

    fn lower(&self, context: &Context<'_>) -> Lowered {
        let Cube::Forwarder(spec) = context.cube else {
            return Lowered::default();
        };
        let actions: Rows = spec
            .actions
            .iter()
            .filter_map(|(input, action)| {
                let action = match action {
                    Action::Drop => ACTION_DROP,
                    // A port that no link names leads nowhere.
                    Action::Forward(output) => {
                        context.port(output).map_or(ACTION_DROP, action_forward)
                    }
                };
                Some((index(context.port(input)?), action.to_ne_bytes().to_vec()))
            })
            .collect();
        let actions = Table::config(
            "actions",
            MapKind::Array,
            context.capacity(),
            (4, 4),
            actions,
        );
        Lowered {
            tables: vec![actions],
            ..Lowered::default()
        }
    }
}
