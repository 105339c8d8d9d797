//! Steps of a plan as people read them, and their progress.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

use super::output;
use crate::plan::{Op, Step};

/// What a step does, in a few words.
pub(super) fn describe(op: &Op) -> String {
    match op {
        Op::CreateNamespace(name) => format!("create namespace {name}"),
        Op::DeleteNamespace(name) => format!("delete namespace {name}"),
        Op::CreateVeth(name, veth) => format!("create interface {name} ({})", veth.peer.name),
        Op::ConfigureVeth { name, .. } => format!("configure interface {name}"),
        Op::DeleteVeths(names) => {
            let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
            format!("delete interfaces {}", names.join(", "))
        }
        Op::CreateMap(path, _) => format!("create table {path}"),
        Op::CopyEntries { from, .. } => format!("copy table {from}"),
        Op::WriteEntries { map, put, delete } => {
            let count = |count: usize| {
                if count == 1 {
                    "1 entry".to_owned()
                } else {
                    format!("{count} entries")
                }
            };
            match (put.len(), delete.len()) {
                (put, 0) => format!("write {} of {map}", count(put)),
                (0, delete) => format!("delete {} of {map}", count(delete)),
                (put, delete) => {
                    format!("write {} and delete {} of {map}", count(put), count(delete))
                }
            }
        }
        Op::LoadProgram(path, _) => format!("load program {path}"),
        Op::SetSlot(slot, bank, program) => {
            format!("set slot {slot} of bank {bank:?} to {program}")
        }
        Op::Activate { bank, .. } => format!("switch to bank {bank:?}"),
        Op::Drain => "wait for packets on their way".to_owned(),
        Op::ClearSlot(slot, bank) => format!("clear slot {slot} of bank {bank:?}"),
        Op::Attach(_, attachment) => format!(
            "attach to {} at {}",
            attachment.interface,
            attachment.point.name()
        ),
        Op::UpdateLink { link, .. } => format!("exchange the program of {link}"),
        Op::Detach(path) => format!("detach {path}"),
        Op::Rename { to, .. } => format!("put {to} in its place"),
        Op::Pin { pin, .. } => format!("pin {pin} again"),
        Op::Unpin(path) => format!("remove {path}"),
        Op::WriteRecord(_) => "note what is applied".to_owned(),
        Op::MarkRecord { unfinished: true } => "note that an apply is under way".to_owned(),
        Op::MarkRecord { unfinished: false } => "note that the apply is done".to_owned(),
        Op::RemoveDirectory => "remove the topology's directory".to_owned(),
    }
}

/// Progress on stderr: a line per finished step, or a bar on a terminal.
pub(super) struct Progress {
    total: usize,
    bar: Option<ProgressBar>,
    running: Option<String>,
}

impl Progress {
    pub(super) fn new(total: usize) -> Self {
        let shown = io::stderr().is_terminal() && !output::is_quiet();
        Self {
            total,
            bar: shown.then(|| bar(total)),
            running: None,
        }
    }

    /// A step starts, so the one before is finished.
    pub(super) fn starts(&mut self, number: usize, step: &Step) {
        self.finish_running();
        let text = format!("{}: {}", step.address, describe(&step.op));
        if let Some(bar) = &self.bar {
            bar.set_position(number as u64);
            bar.set_message(text);
        } else {
            self.running = Some(format!("[{}/{}] {text}", number + 1, self.total));
        }
    }

    /// All is done.
    pub(super) fn done(&mut self) {
        self.finish_running();
        self.clear();
    }

    /// The step that runs failed: it is not reported as finished.
    pub(super) fn failed(&mut self) {
        self.running = None;
        self.clear();
    }

    fn finish_running(&mut self) {
        if let Some(text) = self.running.take() {
            output::inform(&text);
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A bar with the time that is left, cut to the width of the terminal.
fn bar(total: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {eta:>4} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("#>.");
    ProgressBar::new(total as u64).with_style(style)
}
