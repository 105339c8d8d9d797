//! `pcn doctor`

use serde_json::{Value, json};

use super::{
    CommandResult, ExitCode, FORMAT_VERSION, Failure, Format,
    host::HostArgs,
    output::{self, paint, style},
};
use crate::kernel::{
    self, Kernel,
    linux::{
        LinuxKernel, foreign, pins, privilege,
        probe::{self, Absence},
    },
};
use crate::{observed::Interest, resource::PinPath};

/// Check what pcn needs of this machine: kernel features, privilege, bpffs, leftovers
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t, env = "PCN_OUTPUT")]
    output: Format,
    #[command(flatten)]
    host: HostArgs,
}

/// One thing that was looked at.
struct Check {
    name: String,
    /// What it takes; empty where nothing can be missing.
    needs: String,
    result: Result<String, String>,
    /// How the command ends if it is missing.
    code: ExitCode,
}

impl Args {
    pub(super) fn run(&self) -> CommandResult {
        let mut checks = capabilities();
        let privileged = self.host.check().is_ok();
        checks.extend(features(privileged));
        if privileged {
            checks.push(self.bpffs());
            checks.extend(self.topologies());
        }
        match self.output {
            Format::Text => output::print(&text(&checks))?,
            Format::Json => output::print_json(&to_json(&checks))?,
        }
        let failed = checks
            .iter()
            .filter(|check| check.result.is_err())
            .map(|check| check.code);
        match failed.max() {
            Some(ExitCode::NotPermitted) => Err(Failure::new(
                ExitCode::NotPermitted,
                "not everything could be checked; run `pcn doctor` as root",
            )),
            Some(code) => Ok(code),
            None => Ok(ExitCode::Done),
        }
    }

    fn bpffs(&self) -> Check {
        let root = &self.host.bpffs;
        let existing = root.ancestors().find(|path| path.exists()).unwrap_or(root);
        let state = if pins::is_bpffs(existing) {
            "mounted"
        } else {
            "not mounted yet: the first apply does it"
        };
        Check::good("bpffs", format!("{} ({state})", root.display()))
    }

    fn topologies(&self) -> Vec<Check> {
        match kernel::linux::topologies(&self.host.bpffs) {
            Err(error) => vec![Check::bad("topologies", error.to_string())],
            Ok(names) => names
                .into_iter()
                .map(|name| {
                    let title = format!("topology {name}");
                    match LinuxKernel::new(name, &self.host.bpffs)
                        .and_then(|mut kernel| topology(&mut kernel))
                    {
                        Ok(Ok(text)) => Check::good(&title, text),
                        Ok(Err(text)) => Check::bad(&title, text),
                        Err(error) => Check::bad(&title, error.to_string()),
                    }
                })
                .collect(),
        }
    }
}

impl Check {
    fn good(name: &str, found: String) -> Self {
        Self {
            name: name.to_owned(),
            needs: String::new(),
            result: Ok(found),
            code: ExitCode::Done,
        }
    }

    fn bad(name: &str, why: String) -> Self {
        Self {
            name: name.to_owned(),
            needs: String::new(),
            result: Err(why),
            code: ExitCode::Error,
        }
    }
}

/// A line per capability: what it is for, and whether it is held.
fn capabilities() -> Vec<Check> {
    let check = |need: &privilege::Need| {
        let held = privilege::is_permitted(need.capability);
        Check {
            name: need.capability.to_string(),
            needs: String::new(),
            result: if held {
                Ok(need.purpose.to_owned())
            } else {
                Err(need.purpose.to_owned())
            },
            code: ExitCode::NotPermitted,
        }
    };
    privilege::NEEDS.iter().map(check).collect()
}

/// The kernel's release says something to everybody; what has to be tried takes privilege.
fn features(privileged: bool) -> Vec<Check> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (major, minor) = probe::MINIMUM;
    let known = probe::version().is_some_and(|version| version >= probe::MINIMUM);
    let release = release.trim().to_owned();
    let kernel = Check {
        name: "kernel".to_owned(),
        needs: format!("Linux {major}.{minor}"),
        result: if known { Ok(release) } else { Err(release) },
        code: ExitCode::Unsupported,
    };
    let probes = if privileged {
        probe::probes()
    } else {
        Vec::new()
    };
    let probes = probes.into_iter().map(|probe| Check {
        name: probe.name.to_owned(),
        needs: probe.needs.to_owned(),
        code: match probe.result {
            Err(Absence::Untried(_)) => ExitCode::Error,
            _ => ExitCode::Unsupported,
        },
        result: probe
            .result
            .map(|()| "present".to_owned())
            .map_err(|absence| absence.to_string()),
    });
    std::iter::once(kernel).chain(probes).collect()
}

/// Leftovers that are named.
const NAMED: usize = 5;

/// What there is to say of a topology, good or bad.
fn topology(kernel: &mut dyn Kernel) -> kernel::Result<Result<String, String>> {
    let observed = kernel.observe(&Interest::default())?;
    let Some(record) = &observed.record else {
        return Ok(Err(
            "leftovers of an apply that did not come to its end; `pcn destroy` removes them"
                .to_owned(),
        ));
    };
    let applied = format!(
        "applied by pcn {}, layout {}",
        record.pcn_version, record.layout_version
    );
    let mut problems = Vec::new();
    if !observed.leftovers.is_empty() {
        let named: Vec<&str> = observed
            .leftovers
            .iter()
            .take(NAMED)
            .map(PinPath::as_str)
            .collect();
        problems.push(format!(
            "{} leftovers of an interrupted apply, which the next one removes ({}{})",
            observed.leftovers.len(),
            named.join(", "),
            if observed.leftovers.len() > NAMED {
                ", ..."
            } else {
                ""
            }
        ));
    }
    for before in foreign::before(&observed) {
        problems.push(format!(
            "{}: program {id}, which is not pcn's, runs before it and may take its packets; see `bpftool prog show id {id}`",
            before.link,
            id = before.id
        ));
    }
    Ok(if problems.is_empty() {
        Ok(applied)
    } else {
        Err(format!("{applied}; {}", problems.join("; ")))
    })
}

fn text(checks: &[Check]) -> String {
    let width = checks
        .iter()
        .map(|check| check.name.len())
        .max()
        .unwrap_or(0);
    let line = |check: &Check| {
        let (word, found) = match &check.result {
            Ok(found) => (paint(style::CREATE, "ok     "), found),
            Err(why) => (paint(style::DELETE, "missing"), why),
        };
        let needs = if check.needs.is_empty() {
            String::new()
        } else {
            format!("  (needs {})", check.needs)
        };
        format!("{word}  {:<width$}  {found}{needs}\n", check.name)
    };
    checks.iter().map(line).collect()
}

fn to_json(checks: &[Check]) -> Value {
    let one = |check: &Check| {
        let (state, message) = match &check.result {
            Ok(found) => ("ok", found),
            Err(why) => ("missing", why),
        };
        json!({ "name": check.name, "state": state, "message": message, "needs": check.needs })
    };
    json!({ "formatVersion": FORMAT_VERSION, "checks": checks.iter().map(one).collect::<Vec<_>>() })
}
