//! Longest-prefix tables.

use core::{cell::UnsafeCell, marker::PhantomData};

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, bpf_map_type::BPF_MAP_TYPE_LPM_TRIE},
    helpers::bpf_map_lookup_elem,
};

/// A longest-prefix table whose keys are a type of ours, with its alignment: `aya`'s own is
/// packed, and would be put together byte by byte on the stack.
#[repr(transparent)]
pub struct Lpm<K, V> {
    definition: UnsafeCell<Definition>,
    types: PhantomData<(K, V)>,
}

/// `struct bpf_map_def`, as object files hold it in the section `maps`.
#[repr(C)]
struct Definition {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    id: u32,
    pinning: u32,
}

// SAFETY: the definition is only read by the loader; the map itself synchronises.
unsafe impl<K, V> Sync for Lpm<K, V> {}

impl<K, V> Lpm<K, V> {
    /// A table with room for `max_entries`; it takes memory for those that are there.
    pub const fn with_max_entries(max_entries: u32) -> Self {
        let definition = Definition {
            map_type: BPF_MAP_TYPE_LPM_TRIE,
            key_size: size_of::<K>() as u32,
            value_size: size_of::<V>() as u32,
            max_entries,
            map_flags: BPF_F_NO_PREALLOC,
            id: 0,
            pinning: 0,
        };
        Self {
            definition: UnsafeCell::new(definition),
            types: PhantomData,
        }
    }

    /// The value of the longest prefix that contains the key's address.
    #[inline(always)]
    pub fn get(&self, key: &K) -> Option<&V> {
        // SAFETY: the loader puts the map in the place of the definition, and the key has the
        // layout the map is made with.
        unsafe {
            bpf_map_lookup_elem(self.definition.get().cast(), (&raw const *key).cast())
                .cast::<V>()
                .as_ref()
        }
    }
}
