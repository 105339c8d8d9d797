//! What a test needs of the machine.
//!
//! Without root and BPF a test says so and passes. With them nothing is skipped: a feature that
//! is missing is a failure.

/// `CAP_NET_ADMIN` and `CAP_SYS_ADMIN` (linux/capability.h): the latter is for network namespaces,
/// and includes `CAP_BPF`.
const NET_ADMIN: u64 = 1 << 12;
const SYS_ADMIN: u64 = 1 << 21;

/// True if the test can run. A test begins with `if !require::root() { return }`.
pub fn root() -> bool {
    let held = effective_capabilities();
    let capable = held & NET_ADMIN != 0 && held & SYS_ADMIN != 0;
    if !capable {
        println!("skipped: needs root");
    }
    capable
}

fn effective_capabilities() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("/proc is mounted");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .expect("Linux tells capabilities");
    u64::from_str_radix(line.trim(), 16).expect("a bit set in hexadecimal")
}
