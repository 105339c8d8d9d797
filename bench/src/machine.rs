//! What is measured on: kernel, CPU, versions, and what the hypervisor takes.

use std::{fs, time::Duration};

use integration_tests::command::run;
use serde::{Deserialize, Serialize};

/// The machine, for the head of reports.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Release of the kernel.
    pub kernel: String,
    /// Model of the CPU.
    pub cpu: String,
    /// How many of them.
    pub cpus: usize,
    /// What is mitigated, and how.
    pub mitigations: String,
    /// Version of `pcn`.
    pub pcn: String,
    /// When the first row was begun, in UTC.
    pub date: String,
}

impl Machine {
    /// This one.
    pub fn look() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map_or("", |line| line.trim_start_matches([' ', '\t', ':']));
        let spectre = fs::read_to_string("/sys/devices/system/cpu/vulnerabilities/spectre_v2");
        Self {
            kernel: first_line("uname -r"),
            cpu: model.to_owned(),
            cpus: info
                .lines()
                .filter(|line| line.starts_with("processor"))
                .count(),
            mitigations: spectre.unwrap_or_default().trim().to_owned(),
            pcn: env!("CARGO_PKG_VERSION").to_owned(),
            date: first_line("date --utc +%Y-%m-%dT%H:%M:%SZ"),
        }
    }
}

/// The first line that a command writes; nothing if it cannot be run.
pub fn first_line(line: &str) -> String {
    let command = line.split_whitespace().next().unwrap_or_default();
    if !installed(command) {
        return String::new();
    }
    let run = run(line);
    let text = if run.stdout.is_empty() {
        run.stderr
    } else {
        run.stdout
    };
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// True if there is a command of that name.
pub fn installed(command: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(command).exists())
}

/// The version of a Debian package; nothing if it is not installed.
pub fn package(name: &str) -> String {
    let version = first_line(&format!("dpkg-query -W -f=${{Version}} {name}"));
    if version.contains(' ') {
        return String::new();
    }
    version
}

/// Times of all CPUs together, in clock ticks.
#[derive(Clone, Copy, Debug)]
pub struct CpuTime {
    stolen: u64,
    all: u64,
}

impl CpuTime {
    /// Up to now.
    pub fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = line
            .split_whitespace()
            .skip(1)
            .filter_map(|word| word.parse().ok())
            .collect();
        Self {
            // user nice system idle iowait irq softirq steal (proc_stat(5)); those after are in user and nice already.
            stolen: ticks.get(7).copied().unwrap_or(0),
            all: ticks.iter().take(8).sum(),
        }
    }

    /// Share that the hypervisor took since then.
    pub fn stolen_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all);
        if all == 0 {
            return 0.0;
        }
        self.stolen.saturating_sub(before.stolen) as f64 / all as f64
    }
}

/// The load of the last minute: runnable threads.
pub fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let word = text.split_whitespace().next();
    word.and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

/// A duration in milliseconds.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
