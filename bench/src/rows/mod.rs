//! All rows, by family.

mod bridge;
mod chain;
mod control;
mod daemon;
mod ddos;
mod firewall;
mod goodput;
mod lookup;
mod nat;
mod program;
mod router;
mod size;
mod sockets;
mod topology;

use integration_tests::{lab::Lab, test_run::Hook};

use crate::{
    contest::Effort,
    finding::{Finding, Instrument},
    machine::package,
};

/// What a row is given.
pub struct Scope<'a> {
    /// A machine of its own.
    pub lab: &'a Lab,
    /// How much is to be done.
    pub effort: Effort,
}

/// What was measured, with what is added to the row's id where it is more than one.
pub type Findings = Vec<(&'static str, Finding)>;

/// Measures, or says why that cannot be done here.
type Measure = Box<dyn Fn(&Scope<'_>) -> Result<Findings, String> + Send + Sync>;

/// One row of the table.
pub struct Row {
    /// By which it is asked for: family first.
    pub id: String,
    /// What is done.
    pub job: String,
    /// How it is measured.
    pub instrument: Instrument,
    /// False if it takes too long for a quick run.
    pub quick: bool,
    /// Measures it.
    pub measure: Measure,
}

impl Row {
    fn new(
        id: impl Into<String>,
        instrument: Instrument,
        job: impl Into<String>,
        measure: impl Fn(&Scope<'_>) -> Result<Finding, String> + Send + Sync + 'static,
    ) -> Self {
        Self::several(id, instrument, job, move |scope| {
            measure(scope).map(|finding| vec![("", finding)])
        })
    }

    fn several(
        id: impl Into<String>,
        instrument: Instrument,
        job: impl Into<String>,
        measure: impl Fn(&Scope<'_>) -> Result<Findings, String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            id: id.into(),
            job: job.into(),
            instrument,
            quick: true,
            measure: Box::new(measure),
        }
    }

    /// Not in a quick run.
    fn long(self) -> Self {
        Self {
            quick: false,
            ..self
        }
    }

    /// True if this is what somebody asks for: the row, or its family.
    pub fn is(&self, wanted: &str) -> bool {
        let rest = self.id.strip_prefix(wanted);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

/// All of them, cheap ones first.
pub fn all() -> Vec<Row> {
    let families = [
        program::rows(),
        size::rows(),
        chain::rows(),
        bridge::rows(),
        router::rows(),
        lookup::rows(),
        firewall::rows(),
        nat::rows(),
        ddos::rows(),
        goodput::rows(),
        control::rows(),
        daemon::rows(),
        sockets::rows(),
    ];
    families.into_iter().flatten().collect()
}

/// Says the version of what is in the kernel.
const KERNEL: &str = "uname -r";

/// Versions of those that rows are compared with.
pub fn versions() -> Vec<(String, String)> {
    let packages = [
        "nftables",
        "iptables",
        "ipset",
        "iproute2",
        "iperf3",
        "sockperf",
        "xdp-tools",
    ];
    packages
        .iter()
        .map(|name| ((*name).to_owned(), package(name)))
        .collect()
}

/// The hook as ids and topologies write it.
fn word(hook: Hook) -> &'static str {
    match hook {
        Hook::Tc => "tc",
        Hook::Xdp => "xdp",
    }
}
