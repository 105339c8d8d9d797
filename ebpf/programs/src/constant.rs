//! Read-only globals, field by field.

/// One field of a read-only global. `Global::load` reads all fields each time, and where only one is wanted, the other loads stay in
/// the program: nobody may leave out what is volatile.
///
/// ```ignore
/// let features = constant!(SETTINGS: Settings, features);
/// ```
#[macro_export]
macro_rules! constant {
    ($global:ident: $type:ty, $($field:ident).+) => {{
        let global: *const aya_ebpf::Global<$type> = &raw const $global;
        // SAFETY: the type is transparent, and the global is there and never written.
        unsafe { (&raw const (*global.cast::<$type>()).$($field).+).read_volatile() }
    }};
}
