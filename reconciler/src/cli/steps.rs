//! Steps of a plan as people read them, and their progress.

use std::io::{self, IsTerminal};

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
        Op::Unpin(path) => format!("remove {path}"),
        Op::WriteRecord(_) => "note what is applied".to_owned(),
        Op::RemoveDirectory => "remove the topology's directory".to_owned(),
    }
}

/// Progress on stderr: a line per finished step, or one line that moves on a terminal.
pub(super) struct Progress {
    total: usize,
    terminal: bool,
    running: Option<(usize, String)>,
}

impl Progress {
    pub(super) fn new(total: usize) -> Self {
        Self {
            total,
            terminal: io::stderr().is_terminal() && !output::is_quiet(),
            running: None,
        }
    }

    /// A step starts, so the one before is finished.
    pub(super) fn starts(&mut self, number: usize, step: &Step) {
        self.finish_running();
        let text = format!(
            "[{}/{}] {}: {}",
            number + 1,
            self.total,
            step.address,
            describe(&step.op)
        );
        if self.terminal {
            // A line that wraps could not be taken back.
            let short: String = text.chars().take(79).collect();
            output::note_raw(&format!("\r\x1b[K{short}"));
        }
        self.running = Some((number, text));
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
        if let Some((_, text)) = self.running.take()
            && !self.terminal
        {
            output::inform(&text);
        }
    }

    fn clear(&self) {
        if self.terminal {
            output::note_raw("\r\x1b[K");
        }
    }
}
