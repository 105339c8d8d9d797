//! `pcn watch`: files that change, interfaces that come and go, drift, signals.

mod endurance;
mod files;
mod kernel;
mod process;

use std::{fs, path::Path};

use integration_tests::{
    command::{Run, Running},
    lab::Lab,
    wait,
};
use nix::sys::signal::Signal;

/// Where the followed files are.
const DIRECTORY: &str = "/run/watched";

/// What the log says when a round has changed something.
const APPLIED: &str = "applied topology=";

/// A topology with one switch, whose setting says which generation it is.
fn switch(name: &str, aging: u32) -> String {
    format!(
        "apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: {{ name: {name} }}
spec:
  namespaces:
    {name}-h: {{ interfaces: {{ eth0: {{ addresses: [10.0.0.1/24] }} }} }}
  cubes: {{ br: {{ bridge: {{ agingTime: {aging}s }} }} }}
  links: [[br:h, {name}-h/eth0]]
"
    )
}

/// A watch that runs.
struct Watch<'a> {
    lab: &'a Lab,
    running: Running,
}

impl<'a> Watch<'a> {
    /// Starts it; what is not announced is looked for only every hour.
    fn start(lab: &'a Lab, arguments: &str) -> Self {
        let running = lab.start_pcn(&format!("watch --interval 1h --poll 1h {arguments}"));
        Self { lab, running }
    }

    /// Waits until the log has a text, anywhere behind the first `from` bytes.
    #[track_caller]
    fn wait_for(&mut self, from: usize, text: &str) {
        let found = wait::within(wait::PATIENCE, || {
            assert!(
                self.running.is_running(),
                "it ended: {}",
                self.running.stderr()
            );
            self.running.stderr()[from..].contains(text).then_some(())
        });
        assert!(
            found.is_some(),
            "no `{text}` in {}",
            &self.running.stderr()[from..]
        );
    }

    fn log_length(&self) -> usize {
        self.running.stderr().len()
    }

    /// Waits until a topology has that setting.
    #[track_caller]
    fn wait_for_aging(&mut self, topology: &str, aging: u32) {
        let wanted = format!("agingTime: {aging}s");
        let found = wait::within(wait::PATIENCE, || {
            let show = self.lab.pcn(&format!("show {topology} -o yaml"));
            show.stdout.contains(&wanted).then_some(())
        });
        assert!(
            found.is_some(),
            "no `{wanted}`; the log: {}",
            self.running.stderr()
        );
    }

    /// Ends it as systemd does, and insists that it ends well.
    #[track_caller]
    fn stop(self) -> Run {
        self.running.signal(Signal::SIGTERM);
        self.running.end().expect(0)
    }
}

fn watched() -> &'static Path {
    let directory = Path::new(DIRECTORY);
    fs::create_dir_all(directory).expect("a directory in a tmpfs");
    directory
}

/// Replaces a file as careful programs do.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("a file in a tmpfs");
    fs::rename(&new, path).expect("a file can be renamed");
}
