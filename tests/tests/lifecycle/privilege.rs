//! What `pcn` does with privilege: it gives up what it does not need, says what it lacks, and is
//! not led out of its directory.

use std::{
    fs,
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::Path,
    time::Duration,
};

use integration_tests::{
    lab::{Lab, Station, run_test},
    traffic::ping,
    wait,
};
use reconciler::kernel::linux::{bpf, lock::Lock};

use crate::{BASE, assert_base_works, edit, ip};

/// Bits of the capabilities that pcn keeps.
const NET_ADMIN: u64 = 1 << 12;
const NET_BROADCAST: u64 = 1 << 11;
const NET_RAW: u64 = 1 << 13;
const SYS_PTRACE: u64 = 1 << 19;
const SYS_ADMIN: u64 = 1 << 21;
const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;

/// A number of `/proc/PID/status`, in hexadecimal digits.
fn status(process: &Path, field: &str) -> Option<u64> {
    let text = fs::read_to_string(process.join("status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[test]
fn what_is_not_needed_is_dropped() {
    run_test(|lab| {
        let path = lab.file("base.yaml", BASE);
        let root = lab.pin("");
        let root = Path::new(root.to_str().expect("UTF-8").trim_end_matches('/'));
        let lock = Lock::acquire(root, &"live".parse().expect("a name"), Duration::ZERO)
            .expect("nobody else writes");
        let waiting = lab.start_pcn(&format!("apply --yes --lock-timeout 20s -f {path}"));
        let process = Path::new("/proc").join(waiting.id().to_string());
        // What the machine gives this test, and pcn keeps.
        let given = status(Path::new("/proc/self"), "CapPrm:").expect("a process has capabilities");
        let all =
            given & (BPF | NET_ADMIN | PERFMON | SYS_ADMIN | SYS_PTRACE | NET_BROADCAST | NET_RAW);
        assert_ne!(given, all, "there is something to drop");
        wait::until("it has restricted itself", || {
            (status(&process, "CapEff:") == Some(BPF | NET_ADMIN)).then_some(())
        });
        for thread in fs::read_dir(process.join("task"))
            .expect("it runs")
            .flatten()
        {
            let thread = thread.path();
            assert_eq!(status(&thread, "CapEff:"), Some(BPF | NET_ADMIN));
            assert_eq!(status(&thread, "CapPrm:"), Some(all));
            assert_eq!(status(&thread, "CapBnd:"), Some(all));
            assert_eq!(status(&thread, "CapInh:"), Some(0));
            assert_eq!(status(&thread, "CapAmb:"), Some(0));
            assert_eq!(status(&thread, "NoNewPrivs:"), Some(1));
        }
        drop(lock);
        waiting.end().expect(0);
        lab.assert_converged(BASE);
        assert_base_works(lab);
    });
}

#[test]
fn what_runs_unprivileged() {
    run_test(|lab| {
        lab.apply(BASE);
        let path = lab.file("base.yaml", BASE);
        let nobody = |arguments: &str| {
            lab.pcn_as(
                "setpriv --reuid 65534 --regid 65534 --clear-groups",
                arguments,
            )
        };
        for arguments in [
            &format!("validate -f {path}"),
            &format!("graph -f {path}"),
            "schema",
            "completion bash",
            "man",
            "--version",
        ] {
            nobody(arguments).expect(0);
        }
        for arguments in [
            &format!("plan -f {path}"),
            &format!("diff -f {path}"),
            &format!("apply --yes -f {path}"),
            "destroy --yes live",
            "show",
            "show live",
            "graph live",
            "doctor",
        ] {
            let refused = nobody(arguments).expect(77);
            assert!(refused.stderr.contains("root"), "no advice: {refused}");
        }
        let doctor = nobody("doctor");
        assert!(doctor.stdout.contains("CAP_BPF"), "{doctor}");
        assert_base_works(lab);
    });
}

const WIRES: &str = "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: wires }
spec:
  cubes: { br: { bridge: { agingTime: 300s } }, shield: { ddosMitigator: { sources: [198.51.100.0/24] } } }
  interfaces: { wire0: { through: [shield] } }
  links: [[br:a, wire0], [br:b, wire1]]
";

/// A user that is not root, with no more than it takes, on a directory that root has prepared.
#[test]
fn three_capabilities_are_enough_for_what_needs_no_namespace() {
    run_test(|lab| {
        let a = Station::new("a", "wire0", &["10.0.0.1/24"]);
        let b = Station::new("b", "wire1", &["10.0.0.2/24"]);
        let root = lab.pin("");
        fs::create_dir(&root).expect("a directory in bpffs");
        for directory in [
            root.as_path(),
            Path::new("/run/pcn"),
            Path::new("/var/lib/pcn"),
        ] {
            fs::create_dir_all(directory).expect("root can");
            fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).expect("root can");
            std::os::unix::fs::chown(directory, Some(4711), Some(4711)).expect("root can");
        }
        // The mount of bpffs is root's: others may pass, not look.
        fs::set_permissions("/sys/fs/bpf", fs::Permissions::from_mode(0o711)).expect("root can");
        let path = lab.file("wires.yaml", WIRES);
        let user = |arguments: &str| {
            lab.pcn_as(
                "setpriv --reuid 4711 --regid 4711 --clear-groups --inh-caps +bpf,+net_admin,+perfmon --ambient-caps +bpf,+net_admin,+perfmon",
                arguments,
            )
        };
        user(&format!("apply --yes -f {path}")).expect(0);
        let plan = user(&format!("plan --detailed-exitcode -f {path}")).expect(0);
        assert_eq!(plan.stdout, "No changes.\n");
        assert_eq!(ping(&a, ip("10.0.0.2")), 64);
        user("show wires").expect(0);
        let changed = lab.file("wires.yaml", &edit(WIRES, "300s", "20s"));
        user(&format!("apply --yes -f {changed}")).expect(0);
        assert_eq!(ping(&b, ip("10.0.0.1")), 64);
        // What needs more says so, and leaves nothing.
        let base = lab.file("base.yaml", BASE);
        let refused = user(&format!("apply --yes -f {base}"));
        assert!(matches!(refused.code, Some(4 | 77)), "{refused}");
        assert!(refused.stderr.contains("ermi"), "{refused}");
        user("destroy --yes wires").expect(0);
        fs::remove_dir(&root).expect("nothing is left in it");
    });
}

#[test]
fn a_kernel_that_is_too_old() {
    run_test(|lab| {
        let path = lab.file("base.yaml", BASE);
        // This personality makes the kernel call itself 2.6.
        let old = |arguments: &str| lab.pcn_as("setarch --uname-2.6", arguments);
        for arguments in [
            &format!("plan -f {path}"),
            &format!("apply --yes -f {path}"),
            "destroy --yes live",
        ] {
            let refused = old(arguments).expect(69);
            assert!(refused.stderr.contains("6.6"), "{refused}");
        }
        old(&format!("validate -f {path}")).expect(0);
        assert!(lab.ids().is_empty());
    });
}

#[test]
fn pins_are_for_root_alone() {
    run_test(|lab| {
        lab.apply(BASE);
        let mut directories = vec![lab.pin("")];
        let mut pins = 0;
        while let Some(directory) = directories.pop() {
            let found = fs::metadata(&directory).expect("it is there");
            assert_eq!(
                (found.uid(), found.mode() & 0o7777),
                (0, 0o700),
                "{}",
                directory.display()
            );
            for entry in fs::read_dir(&directory).expect("root can").flatten() {
                if entry.file_type().expect("a type").is_dir() {
                    directories.push(entry.path());
                } else {
                    let found = entry.metadata().expect("it is there");
                    assert_eq!(
                        (found.uid(), found.mode() & 0o077),
                        (0, 0),
                        "{}",
                        entry.path().display()
                    );
                    pins += 1;
                }
            }
        }
        assert!(pins > 30, "{pins} pins");
    });
}

/// Everything below a directory, by path and inode.
fn inventory(directory: &Path) -> Vec<(String, u64)> {
    let mut found: Vec<_> = fs::read_dir(directory)
        .expect("root can")
        .flatten()
        .map(|entry| {
            (
                entry.path().display().to_string(),
                entry.metadata().expect("it is there").ino(),
            )
        })
        .collect();
    found.sort();
    found
}

/// Links in the tree lead nowhere: no command follows them, and none deletes what they lead to.
#[test]
fn planted_links() {
    run_test(|lab| {
        lab.apply(BASE);
        let victim = Path::new("/sys/fs/bpf/victim");
        fs::create_dir(victim).expect("a directory in bpffs");
        fs::set_permissions(victim, fs::Permissions::from_mode(0o700)).expect("root can");
        fs::create_dir(victim.join("cubes")).expect("root can");
        let counters = bpf::open(&lab.pin("live/cubes/br/counters")).expect("a pin");
        let directory = fs::File::open(victim).expect("it is there");
        bpf::pin_at(counters.as_fd(), directory.as_fd(), "counters", victim).expect("root can");
        let outside = inventory(victim);
        for place in [
            "live",
            "live/cubes",
            "live/cubes/br",
            "live/cubes/br/counters",
            "live/record",
        ] {
            let (path, aside) = (lab.pin(place), Path::new("/sys/fs/bpf/aside"));
            fs::rename(&path, aside).expect("root can");
            symlink(victim, &path).expect("bpffs has links");
            let before = inventory(&lab.pin(""));
            refuses_links(lab, &path);
            assert_eq!(inventory(victim), outside, "{place}");
            assert_eq!(inventory(&lab.pin("")), before, "{place}");
            fs::remove_file(&path).expect("the link is still there");
            fs::rename(aside, &path).expect("root can");
        }
        // The directory of all topologies itself.
        let (root, aside) = (lab.pin(""), Path::new("/sys/fs/bpf/aside"));
        let root = Path::new(root.to_str().expect("UTF-8").trim_end_matches('/'));
        fs::rename(root, aside).expect("root can");
        symlink(victim, root).expect("bpffs has links");
        refuses_links(lab, root);
        assert_eq!(inventory(victim), outside);
        fs::remove_file(root).expect("the link is still there");
        fs::rename(aside, root).expect("root can");
        fs::remove_dir_all(victim).expect("root can");
        lab.assert_converged(BASE);
        assert_base_works(lab);
    });
}

#[track_caller]
fn refuses_links(lab: &Lab, place: &Path) {
    let path = lab.file("base.yaml", BASE);
    for command in [
        format!("plan -f {path}"),
        format!("diff -f {path}"),
        format!("apply --yes -f {path}"),
        "destroy --yes live".to_owned(),
    ] {
        let refused = lab.pcn(&command).expect(1);
        let named = refused.stderr.contains(place.to_str().expect("UTF-8"));
        assert!(named && refused.stderr.contains("link"), "{refused}");
    }
}

#[test]
fn directories_of_others() {
    run_test(|lab| {
        lab.apply(BASE);
        let path = lab.file("base.yaml", BASE);
        for place in ["", "live", "live/cubes/br"] {
            let directory = lab.pin(place);
            std::os::unix::fs::chown(&directory, Some(4711), None).expect("root can");
            for command in [
                format!("apply --yes -f {path}"),
                "destroy --yes live".to_owned(),
            ] {
                // Without the privilege to read everything, what is closed cannot be looked into.
                let refused = lab.pcn(&command);
                assert!(matches!(refused.code, Some(1 | 77)), "{refused}");
                assert!(refused.stderr.contains("4711"), "{refused}");
            }
            std::os::unix::fs::chown(&directory, Some(0), None).expect("root can");
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).expect("root can");
            let refused = lab.pcn(&format!("apply --yes -f {path}")).expect(1);
            assert!(refused.stderr.contains("chmod"), "{refused}");
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).expect("root can");
        }
        lab.assert_converged(BASE);
        // A directory with something else in it is not mounted over.
        fs::create_dir("/run/test/full").expect("root can");
        fs::write("/run/test/full/file", "").expect("root can");
        let refused = lab.pcn(&format!("apply --yes --bpffs /run/test/full -f {path}"));
        assert!(matches!(refused.code, Some(1 | 4)), "{refused}");
        assert!(refused.stderr.contains("not in a bpffs"), "{refused}");
        assert_base_works(lab);
    });
}
