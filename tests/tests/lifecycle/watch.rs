//! `pcn watch`: files that change, interfaces that come and go, drift, signals.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, Instant},
};

use integration_tests::{
    command::{Run, Running, run},
    lab::{Lab, Station, run_test},
    traffic::ping,
    wait,
};

use nix::sys::signal::Signal;

use crate::{BASE, edit, ip};

/// Where the followed files are.
const DIRECTORY: &str = "/run/watched";

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

#[test]
fn applies_what_changes_and_leaves_it_running() {
    run_test(|lab| {
        let file = watched().join("a.yaml");
        fs::write(&file, switch("a", 100)).expect("a file in a tmpfs");
        let mut watch = Watch::start(lab, &format!("-f {}", file.display()));
        watch.wait_for_aging("a", 100);
        // In place.
        fs::write(&file, switch("a", 101)).expect("a file in a tmpfs");
        watch.wait_for_aging("a", 101);
        // By renaming a new one over it.
        replace(&file, &switch("a", 102));
        watch.wait_for_aging("a", 102);
        // As some editors do: the old one becomes a backup, the new one is created in its place.
        fs::rename(&file, file.with_extension("yaml~")).expect("a file can be renamed");
        fs::write(&file, switch("a", 103)).expect("a file in a tmpfs");
        watch.wait_for_aging("a", 103);
        // By removing and creating it.
        fs::remove_file(&file).expect("a file can be removed");
        watch.wait_for(0, "what runs stays");
        fs::write(&file, switch("a", 104)).expect("a file in a tmpfs");
        watch.wait_for_aging("a", 104);
        // By a link to another file, and a change to that.
        let other = watched().join("other");
        fs::write(&other, switch("a", 105)).expect("a file in a tmpfs");
        fs::remove_file(&file).expect("a file can be removed");
        symlink("other", &file).expect("a link in a tmpfs");
        watch.wait_for_aging("a", 105);
        fs::write(&other, switch("a", 106)).expect("a file in a tmpfs");
        watch.wait_for_aging("a", 106);
        let ids = lab.ids();
        watch.stop();
        assert_eq!(lab.ids(), ids, "everything keeps running");
        lab.assert_converged(&switch("a", 106));
    });
}

#[test]
fn a_config_map() {
    run_test(|lab| {
        let directory = watched();
        let generation = |number: u32| {
            let name = format!("..generation{number}");
            fs::create_dir(directory.join(&name)).expect("a directory in a tmpfs");
            fs::write(directory.join(&name).join("a.yaml"), switch("a", number))
                .expect("a file in a tmpfs");
            symlink(&name, directory.join("..data_tmp")).expect("a link in a tmpfs");
            fs::rename(directory.join("..data_tmp"), directory.join("..data"))
                .expect("a link can be renamed");
        };
        generation(100);
        symlink("..data/a.yaml", directory.join("a.yaml")).expect("a link in a tmpfs");
        for arguments in [format!("-f {DIRECTORY}"), format!("-f {DIRECTORY}/a.yaml")] {
            let mut watch = Watch::start(lab, &arguments);
            watch.wait_for_aging("a", 100);
            for number in [101, 102] {
                generation(number);
                fs::remove_dir_all(directory.join(format!("..generation{}", number - 1)))
                    .expect("it is there");
                watch.wait_for_aging("a", number);
            }
            watch.stop();
            fs::remove_dir_all(directory.join("..generation102")).expect("it is there");
            generation(100);
        }
    });
}

#[test]
fn a_directory_and_what_is_wrong_in_it() {
    run_test(|lab| {
        let directory = watched();
        fs::write(directory.join("a.yaml"), switch("a", 100)).expect("a file in a tmpfs");
        let mut watch = Watch::start(lab, &format!("-f {DIRECTORY}"));
        watch.wait_for_aging("a", 100);
        fs::write(directory.join("b.yaml"), switch("b", 200)).expect("a file in a tmpfs");
        watch.wait_for_aging("b", 200);
        // A bad file is reported with its place, and what runs stays; others go on.
        let from = watch.log_length();
        let bad = edit(&switch("a", 101), "bridge", "brigde");
        fs::write(directory.join("a.yaml"), bad).expect("a file in a tmpfs");
        watch.wait_for(from, &format!("{DIRECTORY}/a.yaml:7:18"));
        fs::write(directory.join("b.yaml"), switch("b", 201)).expect("a file in a tmpfs");
        watch.wait_for_aging("b", 201);
        watch.wait_for_aging("a", 100);
        fs::write(directory.join("a.yaml"), switch("a", 102)).expect("a file in a tmpfs");
        watch.wait_for_aging("a", 102);
        // Two files for one topology contradict each other.
        let from = watch.log_length();
        fs::write(directory.join("c.yaml"), switch("a", 103)).expect("a file in a tmpfs");
        watch.wait_for(from, "a.yaml");
        watch.wait_for(from, "topology a is in several files");
        watch.wait_for_aging("a", 102);
        fs::remove_file(directory.join("a.yaml")).expect("it is there");
        watch.wait_for_aging("a", 103);
        // Without its file a topology stays.
        let from = watch.log_length();
        fs::remove_file(directory.join("b.yaml")).expect("it is there");
        watch.wait_for(from, "topology b is in no file any more");
        // Nor does it matter when the directory goes; it may come again.
        fs::rename(directory, "/run/elsewhere").expect("a directory can be renamed");
        watch.wait_for(from, "cannot be read");
        let directory = watched();
        fs::write(directory.join("b.yaml"), switch("b", 202)).expect("a file in a tmpfs");
        watch.wait_for_aging("b", 202);
        watch.wait_for_aging("a", 103);
        watch.stop();
    });
}

#[test]
fn a_file_that_is_bad_from_the_start() {
    run_test(|lab| {
        let file = watched().join("a.yaml");
        let mut watch = Watch::start(lab, &format!("-f {}", file.display()));
        watch.wait_for(0, "cannot be read");
        fs::write(&file, "kind: Topology\n").expect("a file in a tmpfs");
        watch.wait_for(0, "a.yaml:1:1");
        fs::write(&file, switch("a", 100)).expect("a file in a tmpfs");
        watch.wait_for_aging("a", 100);
        watch.stop();
    });
}

#[test]
fn drift_that_the_kernel_announces() {
    run_test(|lab| {
        let file = lab.file("base.yaml", BASE);
        let mut watch = Watch::start(lab, &format!("-f {file}"));
        watch.wait_for(0, "applied");
        lab.assert_converged(BASE);
        let (h1, h2) = (lab.space("h1"), lab.space("h2"));
        for change in [
            "ip address del 10.1.0.1/24 dev eth0",
            "ip -6 address del fd00:1::1/64 dev eth0",
            "ip link set eth0 down",
            "ip link set eth0 mtu 1300",
        ] {
            let from = watch.log_length();
            let start = Instant::now();
            h1.run(change).expect(0);
            watch.wait_for(from, "applied");
            let took = start.elapsed();
            assert!(took < Duration::from_secs(1), "{change}: {took:?}");
            assert_eq!(ping(&h1, ip("10.2.0.1")), 63, "{change}");
            assert_eq!(ping(&h2, ip("fd00:1::1")), 64, "{change}");
            lab.assert_converged(BASE);
        }
        // The whole host.
        let from = watch.log_length();
        drop(h1);
        run("ip netns delete h1").expect(0);
        watch.wait_for(from, "applied");
        wait::until("the host", || {
            (lab.plan(BASE).code == Some(0)).then_some(())
        });
        assert_eq!(ping(&lab.space("h1"), ip("10.2.0.1")), 63);
        watch.stop();
    });
}

fn wires() -> String {
    "apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: wires }
spec:
  namespaces:
    h: { interfaces: { eth0: { addresses: [10.0.0.1/24, 'fd00::1/64'] } } }
  cubes:
    br: { bridge: {} }
  links: [[br:h, h/eth0], [br:w, wire0]]
"
    .to_owned()
}

#[test]
fn an_interface_that_comes_and_goes() {
    run_test(|lab| {
        let file = lab.file("wires.yaml", &wires());
        let mut watch = Watch::start(lab, &format!("-f {file}"));
        watch.wait_for(0, "applied");
        for turn in 0..3 {
            let from = watch.log_length();
            let station = Station::new("s", "wire0", &["10.0.0.2/24", "fd00::2/64"]);
            station
                .run("ip link set eth0 address 02:00:00:00:00:02")
                .expect(0);
            watch.wait_for(from, "pending=0");
            assert_eq!(ping(&lab.space("h"), ip("10.0.0.2")), 64, "turn {turn}");
            let from = watch.log_length();
            drop(station);
            watch.wait_for(from, "applied");
            let show = lab.show("wires");
            assert_eq!(show["interfaces"]["wire0"]["state"], "pending", "{show}");
        }
        watch.stop();
    });
}
