//! Steps for which neither the file nor drift is the reason.

use crate::{
    address::Address,
    change::{self, Action},
    observed::Observed,
    record::Record,
};

/// Steps that neither the file nor drift explains are a change, too: no plan with steps looks
/// like one without.
pub(super) fn unexplained(observed: &Observed, wanted: Option<&Record>) -> change::Change {
    let (action, reason) = match (&observed.record, wanted) {
        (_, None) => (Action::Delete, "what an interrupted apply left goes"),
        (None, Some(_)) => (Action::Create, "in the file, not applied yet"),
        (Some(_), _) if !observed.leftovers.is_empty() => {
            (Action::Update, "leftovers of an interrupted apply go")
        }
        (Some(old), Some(new)) if old.build != new.build => {
            (Action::Update, "applied by another version of pcn")
        }
        (Some(old), Some(new)) if old.topology != new.topology => {
            (Action::Update, "the file says the same otherwise")
        }
        (Some(old), Some(new)) if old.down != new.down => {
            (Action::Update, "a link has gone down or come up")
        }
        (Some(old), Some(new)) if old.pending != new.pending => (
            Action::Update,
            "a commit no longer waits for its confirmation",
        ),
        _ => (Action::Update, "the kernel holds more than was applied"),
    };
    change::Change {
        address: Address::topology(),
        action,
        reason: reason.to_owned(),
        disruption: "none".to_owned(),
        before: change::Fact::default(),
        after: change::Fact::default(),
        mode: None,
    }
}
