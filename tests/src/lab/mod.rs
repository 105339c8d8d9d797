//! A machine of its own for each test: network, mounts, `/run/netns` and bpffs are private, and
//! go when the test's thread ends, however it ends. So tests run side by side, names in them are
//! what the examples call them, and what is there before and after can be compared exactly.
//!
//! Only the kernel's ids are shared. Objects are therefore told by their pins ([`objects`]).

mod footprint;
mod lists;
pub mod objects;
mod space;

use std::{
    cell::RefCell,
    fs,
    os::unix::process::CommandExt,
    panic,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use reconciler::kernel::linux::lock::Lock;
use serde_json::Value;

use self::objects::Objects;
pub use self::{
    footprint::Footprint,
    space::{Space, Station},
};
use crate::{
    command::{Run, Running, run, start_command},
    require,
};

/// Where the product pins in here.
const BPFFS: &str = "/sys/fs/bpf/pcn-test";
/// Files of the test.
const FILES: &str = "/run/test";

/// The private machine.
pub struct Lab {
    /// Everything that was ever seen below the pins.
    seen: RefCell<Objects>,
}

/// Runs a test on a machine of its own. When it has ended, all topologies are destroyed and
/// nothing may be left. Without root this says so and does nothing.
pub fn run_test(work: impl FnOnce(&Lab) + Send) {
    if !require::root() {
        return;
    }
    let inside = || {
        isolate();
        let lab = Lab {
            seen: RefCell::default(),
        };
        let before = Footprint::take();
        work(&lab);
        lab.destroy_all();
        before.assert_same(&Footprint::take());
        lab.seen.borrow().assert_gone();
    };
    let result = thread::scope(|scope| scope.spawn(inside).join());
    result.unwrap_or_else(|panic| panic::resume_unwind(panic));
}

/// Leaves the machine's network and mounts for new ones.
fn isolate() {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("root can make namespaces");
    let mount_on = |what: &str, target: &str, data: Option<&str>| {
        mount(Some(what), target, Some(what), MsFlags::empty(), data)
            .unwrap_or_else(|errno| panic!("mount {what} on {target}: {errno}"));
    };
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .expect("mounts can be made private");
    mount_on("sysfs", "/sys", None);
    mount_on("bpf", "/sys/fs/bpf", Some("mode=0700"));
    // Namespaces, locks, history.
    mount_on("tmpfs", "/run", None);
    mount_on("tmpfs", "/var/lib", None);
    fs::create_dir_all(FILES).expect("a directory in a new tmpfs");
    run("ip link set lo up").expect(0);
}

/// Another `pcn` than the one that is built with the tests.
static OTHER: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Has laboratories use another `pcn` while `work` is done, if one is given: to compare builds.
pub fn with_binary<T>(other: Option<PathBuf>, work: impl FnOnce() -> T) -> T {
    let set = |other| *OTHER.lock().unwrap_or_else(PoisonError::into_inner) = other;
    set(other);
    let result = work();
    set(None);
    result
}

/// The product: the same `main` as `pcn`, which cargo keeps up to date with the tests. Beside a binary that measures it is
/// `pcn` itself.
fn binary() -> PathBuf {
    let other = OTHER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(other) = &*other {
        return other.clone();
    }
    let own = std::env::current_exe().expect("a process has an executable");
    let folder = own.parent().expect("a file is in a folder");
    let profile = folder.parent().expect("target/PROFILE/deps/TEST");
    let places = [folder.join("pcn"), profile.join("pcn-tested")];
    let found = places.iter().find(|path| path.exists());
    found.cloned().unwrap_or_else(|| {
        panic!(
            "{} is not there; cargo builds it with the tests",
            places[1].display()
        )
    })
}

/// Puts bytes into the place of others that are as many, wherever these are: pairs of what is there and what is to be. Returns
/// how often, for each pair. One pass, because the file is large and tests are not optimised.
fn exchange(bytes: &mut [u8], pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<usize> {
    let mut begins = [false; 256];
    for (from, _) in pairs {
        begins[usize::from(from[0])] = true;
    }
    let mut counts = vec![0; pairs.len()];
    let mut at = 0;
    while at < bytes.len() {
        if begins[usize::from(bytes[at])] {
            let found = |(from, _): &(Vec<u8>, Vec<u8>)| bytes[at..].starts_with(from);
            if let Some(which) = pairs.iter().position(found) {
                let (_, to) = &pairs[which];
                bytes[at..at + to.len()].copy_from_slice(to);
                counts[which] += 1;
                at += to.len();
                continue;
            }
        }
        at += 1;
    }
    counts
}

impl Lab {
    /// Runs `pcn` with the words of a line.
    pub fn pcn(&self, arguments: &str) -> Run {
        self.pcn_with(arguments, "")
    }

    /// `pcn` with the words of a line, to be started by the caller.
    pub fn command(&self, arguments: &str) -> Command {
        with_arguments(Command::new(binary()), arguments)
    }

    /// The same as [`Self::pcn`], with a text for its standard input.
    pub fn pcn_with(&self, arguments: &str, input: &str) -> Run {
        let run = start_pcn(arguments, input).end();
        self.note_objects();
        run
    }

    /// The `pcn` that is tested.
    pub fn build(&self) -> PathBuf {
        binary()
    }

    /// Another build of it, which differs from the one that is tested in each object: its licence has
    /// another name, which the kernel knows as well (include/linux/license.h), and so its hash, which is
    /// made when `pcn` is built, is another one. So it replaces all programs, and they do the same.
    pub fn other_build(&self) -> PathBuf {
        let path = PathBuf::from(format!("{FILES}/pcn-other"));
        let mut bytes = fs::read(binary()).expect("the tested pcn can be read");
        let mut pairs = vec![(b"Dual MIT/GPL".to_vec(), b"Dual BSD/GPL".to_vec())];
        // Builds without these make them from the objects.
        pairs.extend(
            reconciler::objects::digests()
                .map(|digest| (digest.to_vec(), digest.map(|byte| !byte).to_vec())),
        );
        let counts = exchange(&mut bytes, &pairs);
        assert!(counts[0] > 0, "objects name their licence");
        fs::copy(binary(), &path).expect("a copy with the same mode");
        fs::write(&path, bytes).expect("a file in a tmpfs");
        path
    }

    /// Runs a build of `pcn` with the words of a line.
    pub fn run_build(&self, build: &Path, arguments: &str) -> Run {
        let command = with_arguments(Command::new(build), arguments);
        let run = start_command(command, &format!("pcn {arguments}"), "").end();
        self.note_objects();
        run
    }

    /// Starts `pcn`.
    pub fn start_pcn(&self, arguments: &str) -> Running {
        start_pcn(arguments, "")
    }

    /// Runs `pcn` behind another command, which changes who it is.
    pub fn pcn_as(&self, prefix: &str, arguments: &str) -> Run {
        let mut words = prefix.split_whitespace();
        let mut command = Command::new(words.next().expect("a command"));
        command
            .args(words)
            .arg(binary())
            .args(arguments.split_whitespace())
            .env("PCN_BPFFS", BPFFS)
            .env("NO_COLOR", "1");
        let run = start_command(command, &format!("{prefix} pcn {arguments}"), "").end();
        self.note_objects();
        run
    }

    /// Starts a shell that leads a group of processes, as a terminal's does, and finds `pcn` in
    /// `$PCN`.
    pub fn start_shell(&self, script: &str) -> Running {
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .env("PCN", binary())
            .env("PCN_BPFFS", BPFFS)
            .env("NO_COLOR", "1")
            .process_group(0);
        start_command(command, &format!("sh -c '{script}'"), "")
    }

    /// Holds the lock of a topology, as another `pcn` would.
    pub fn lock(&self, topology: &str) -> Lock {
        let topology = topology.parse().expect("a name");
        Lock::acquire(Path::new(BPFFS), &topology, Duration::ZERO).expect("nobody else has it")
    }

    /// Runs `pcn` under another program that is given the words of `wrapper` first.
    pub fn pcn_under(&self, wrapper: &str, arguments: &str) -> Run {
        let run = self.start_pcn_under(wrapper, arguments).end();
        self.note_objects();
        run
    }

    /// Starts `pcn` under another program.
    pub fn start_pcn_under(&self, wrapper: &str, arguments: &str) -> Running {
        let mut words = wrapper.split_whitespace();
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).arg(binary());
        let line = format!("{wrapper} pcn {arguments}");
        start_command(with_arguments(command, arguments), &line, "")
    }

    /// Starts `pcn` with variables of its environment.
    pub fn start_pcn_with(&self, arguments: &str, variables: &[(&str, &str)]) -> Running {
        let mut command = with_arguments(Command::new(binary()), arguments);
        command.envs(variables.iter().copied());
        start_command(command, &format!("pcn {arguments}"), "")
    }

    /// Writes a file, and returns its path.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = format!("{FILES}/{name}");
        fs::write(&path, text).expect("a file in a tmpfs");
        path
    }

    /// Applies a topology from its text.
    #[track_caller]
    pub fn apply(&self, text: &str) -> Run {
        let path = self.file("topology.yaml", text);
        self.pcn(&format!("apply --yes -f {path}")).expect(0)
    }

    /// Plans a topology from its text; the exit code says whether there are changes.
    pub fn plan(&self, text: &str) -> Run {
        let path = self.file("topology.yaml", text);
        self.pcn(&format!("plan --detailed-exitcode -f {path}"))
    }

    /// The plan as JSON.
    #[track_caller]
    pub fn plan_json(&self, text: &str) -> Value {
        let path = self.file("topology.yaml", text);
        self.pcn(&format!("plan -o json -f {path}"))
            .expect(0)
            .json()
    }

    /// Insists that a topology is what runs.
    #[track_caller]
    pub fn assert_converged(&self, text: &str) {
        let plan = self.plan(text).expect(0);
        assert_eq!(plan.stdout, "No changes.\n", "{plan}");
    }

    /// What `pcn show` says.
    #[track_caller]
    pub fn show(&self, topology: &str) -> Value {
        self.pcn(&format!("show {topology} -o json"))
            .expect(0)
            .json()
    }

    /// The kernel's ids of everything pinned, by path below the directory of all topologies.
    pub fn ids(&self) -> objects::Ids {
        objects::ids(Path::new(BPFFS))
    }

    /// Those of programs.
    pub fn programs(&self) -> objects::Ids {
        let mut ids = self.ids();
        ids.retain(|path, _| path.contains("/program-"));
        ids
    }

    /// The path of a pin: `TOPOLOGY/cubes/CUBE/TABLE` and the like.
    pub fn pin(&self, path: &str) -> PathBuf {
        Path::new(BPFFS).join(path)
    }

    /// The namespace of that name; `""` is the lab's own.
    pub fn space(&self, name: &str) -> Space {
        Space::open(name)
    }

    /// Takes note of what is there, to see later that it is gone.
    pub fn note_objects(&self) {
        self.seen.borrow_mut().add_pinned(Path::new(BPFFS));
    }

    fn destroy_all(&self) {
        self.note_objects();
        let Ok(entries) = fs::read_dir(BPFFS) else {
            return;
        };
        for entry in entries.flatten() {
            self.pcn(&format!(
                "destroy --yes {}",
                entry.file_name().to_string_lossy()
            ))
            .expect(0);
        }
    }
}

fn start_pcn(arguments: &str, input: &str) -> Running {
    let command = with_arguments(Command::new(binary()), arguments);
    start_command(command, &format!("pcn {arguments}"), input)
}

/// A command of `pcn` with arguments and its environment here.
fn with_arguments(mut command: Command, arguments: &str) -> Command {
    command
        .args(arguments.split_whitespace())
        .env("PCN_BPFFS", BPFFS)
        .env("NO_COLOR", "1");
    command
}
