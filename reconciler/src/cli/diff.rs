//! `pcn diff`

use similar::TextDiff;
use topology_schema::{Name, ValidTopology, to_yaml};

use super::{
    CommandResult, ExitCode,
    files::{self, FileArgs},
    host::HostArgs,
    output::{self, paint, style},
    plan, render,
};
use crate::{kernel::Kernel, reconcile};

/// Show what runs against what the files say, as a unified diff of YAML
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    host: HostArgs,
}

impl Args {
    pub(super) fn run(&self) -> CommandResult {
        let mut code = ExitCode::Done;
        for input in files::read(&self.files.files)? {
            let mut kernel = self.host.open(input.name())?;
            let text = difference(&mut kernel, &input.topology)
                .map_err(|error| plan::about(&input, error.into()))?;
            if !text.is_empty() {
                code = ExitCode::Differences;
                output::print(&text)?;
            }
        }
        Ok(code)
    }
}

/// The diff of what was applied and what is wanted, then where the kernel differs from what was
/// applied.
fn difference(kernel: &mut dyn Kernel, wanted: &ValidTopology) -> crate::kernel::Result<String> {
    let live = kernel
        .record()?
        .map(|record| to_yaml(&record.topology))
        .unwrap_or_default();
    let name = &wanted.topology().metadata.name;
    let mut text = unified(name, &live, &to_yaml(wanted.topology()));
    let changes = reconcile::plan(kernel, wanted)?.changes;
    text.push_str(&render::drift_text(&changes.drift));
    Ok(text)
}

/// Unified diff; empty if there is no difference.
fn unified(name: &Name, live: &str, wanted: &str) -> String {
    let diff = TextDiff::from_lines(live, wanted);
    let text = diff
        .unified_diff()
        .header(&format!("live/{name}"), &format!("wanted/{name}"))
        .to_string();
    text.lines()
        .map(|line| format!("{}\n", color(line)))
        .collect()
}

fn color(line: &str) -> String {
    match line.as_bytes().first() {
        _ if line.starts_with("---") || line.starts_with("+++") => paint(style::TITLE, line),
        Some(b'-') => paint(style::DELETE, line),
        Some(b'+') => paint(style::CREATE, line),
        Some(b'@') => paint(style::DIM, line),
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_name_both_sides() {
        let name = "gateway".parse().unwrap();
        assert_eq!(unified(&name, "a\n", "a\n"), "");
        let text = anstream::adapter::strip_str(&unified(&name, "a\nb\n", "a\nc\n")).to_string();
        assert_eq!(
            text,
            "--- live/gateway\n+++ wanted/gateway\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"
        );
    }
}
