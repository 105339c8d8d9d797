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

/// Stores `new` where `expected` is, in one step. What was there before: `expected` if it was done.
///
/// # Safety
/// `number` must be valid.
#[inline(always)]
pub unsafe fn compare_exchange(number: *mut u64, expected: u64, new: u64) -> u64 {
    let mut found = expected;
    // SAFETY: as the caller promises.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({number} + 0, r0, {new})",
            number = in(reg) number,
            new = in(reg) new,
            inout("r0") found,
            options(nostack),
        );
    }
    found
}
