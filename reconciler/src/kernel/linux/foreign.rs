//! Programs of others that see packets before ours do.

use super::{TCX_EGRESS, TCX_INGRESS, bpf};
use crate::{
    observed::Observed,
    resource::{AttachPoint, PinPath},
};

/// Somebody else's program that runs before one of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    /// Our attachment.
    pub link: PinPath,
    /// Where it is.
    pub point: AttachPoint,
    /// The other program's id. Its name would take `CAP_SYS_ADMIN`.
    pub id: u32,
}

/// The programs before those of a topology. Only tcx runs several: XDP has one program, and what `tc` attaches runs
/// after tcx.
pub fn before(observed: &Observed) -> Vec<Before> {
    let mut found = Vec::new();
    for (path, link) in &observed.links {
        let attach_type = match link.point {
            Some(AttachPoint::TcIngress) => TCX_INGRESS,
            Some(AttachPoint::TcEgress) => TCX_EGRESS,
            _ => continue,
        };
        let (Some(point), true) = (link.point, link.ifindex != 0) else {
            continue;
        };
        // An interface that goes while it is asked has nothing to say.
        let ids = bpf::attached(link.ifindex, attach_type).unwrap_or_default();
        if !ids.contains(&link.program) {
            continue;
        }
        let earlier = ids.into_iter().take_while(|id| *id != link.program);
        found.extend(earlier.map(|id| Before {
            link: path.clone(),
            point,
            id,
        }));
    }
    found
}
