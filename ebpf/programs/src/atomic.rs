//! Numbers that several CPUs change.

/// Adds in one step. Written as assembly: `core` has no such operation for this target.
///
/// # Safety
/// `number` must be valid.
#[inline(always)]
pub unsafe fn add(number: *mut u64, difference: i64) {
    // SAFETY: as the caller promises.
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)({number} + 0) += {difference}",
            number = in(reg) number,
            difference = in(reg) difference,
            options(nostack),
        );
    }
}
