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

/// Adds in one step. The number afterwards.
///
/// # Safety
/// `number` must be valid.
#[inline(always)]
pub unsafe fn add_and_get(number: *mut u64, difference: i64) -> u64 {
    let mut before = difference as u64;
    // SAFETY: as the caller promises.
    unsafe {
        core::arch::asm!(
            "{before} = atomic_fetch_add((u64 *)({number} + 0), {before})",
            number = in(reg) number,
            before = inout(reg) before,
            options(nostack),
        );
    }
    before.wrapping_add(difference as u64)
}

/// Sets bits in one step. The number that was there before.
///
/// # Safety
/// `number` must be valid.
#[inline(always)]
pub unsafe fn set_bits(number: *mut u64, bits: u64) -> u64 {
    let mut before = bits;
    // SAFETY: as the caller promises.
    unsafe {
        core::arch::asm!(
            "{before} = atomic_fetch_or((u64 *)({number} + 0), {before})",
            number = in(reg) number,
            before = inout(reg) before,
            options(nostack),
        );
    }
    before
}

/// Clears all bits but these in one step.
///
/// # Safety
/// `number` must be valid.
#[inline(always)]
pub unsafe fn keep_bits(number: *mut u64, bits: u64) {
    // SAFETY: as the caller promises.
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)({number} + 0) &= {bits}",
            number = in(reg) number,
            bits = in(reg) bits,
            options(nostack),
        );
    }
}
