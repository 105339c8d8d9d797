//! No name in a topology leads out of the topology's directory.

use proptest::prelude::*;
use reconciler::resource::PinPath;
use topology_schema::{InterfaceName, Name};

proptest! {
    #[test]
    fn a_name_is_one_component_of_a_path(text in "[-.%/a-z0-9_]{0,40}|\\.{1,3}|[a-z0-9][-a-z0-9]{0,30}") {
        let is_inside = |component: &str| !matches!(component, "" | "." | "..") && !component.contains('/');
        if let Ok(name) = text.parse::<Name>() {
            prop_assert!(is_inside(name.as_str()), "{name}");
            let path = PinPath::new(&["cubes", name.as_str(), "table"]);
            prop_assert_eq!(path.as_str().split('/').count(), 3);
        }
        if let Ok(name) = text.parse::<InterfaceName>() {
            let path = PinPath::new(&["interfaces", name.as_str(), "link"]);
            prop_assert_eq!(path.as_str().split('/').count(), 3);
            prop_assert!(path.as_str().split('/').all(is_inside), "{path}");
            // bpffs refuses names with dots.
            prop_assert!(!path.as_str().contains('.'), "{path}");
        }
    }

    #[test]
    fn different_names_have_different_paths(one in "[.%a-z0-9/]{1,15}", other in "[.%a-z0-9/]{1,15}") {
        prop_assert_eq!(one == other, PinPath::new(&[&one]) == PinPath::new(&[&other]));
    }
}
