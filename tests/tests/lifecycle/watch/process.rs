//! The process: signals, its death, others at work beside it, what systemd hears.

use std::{fs, os::unix::net::UnixDatagram, path::Path, time::Duration};

use integration_tests::{command::run, lab::run_test, wait};
use nix::sys::signal::Signal;
use reconciler::kernel::linux::lock::Lock;

use super::{APPLIED, DIRECTORY, Watch, switch, watched};
use crate::edit;

#[test]
fn hangup_reads_again_and_looks_at_everything() {
    run_test(|lab| {
        let file = watched().join("a.yaml");
        fs::write(&file, switch("a", 100)).expect("a file in a tmpfs");
        let mut watch = Watch::start(lab, &format!("-f {}", file.display()));
        watch.wait_for_aging("a", 100);
        // Nobody announces this, and the interval is an hour.
        let link = lab
            .ids()
            .into_keys()
            .find(|path| path.contains("/link-"))
            .expect("interfaces are attached to");
        fs::remove_file(lab.pin(&link)).expect("root can remove");
        watch.running.signal(Signal::SIGHUP);
        watch.wait_for(0, "reloading");
        wait::until("the repair", || lab.ids().contains_key(&link).then_some(()));
        watch.stop();
    });
}

#[test]
fn it_ends_in_its_own_time() {
    run_test(|lab| {
        let file = watched().join("a.yaml");
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            fs::write(&file, switch("a", 100)).expect("a file in a tmpfs");
            let mut watch = Watch::start(lab, &format!("-f {}", file.display()));
            // In the middle of the first round.
            watch.wait_for(0, "started");
            watch.running.signal(signal);
            watch.running.signal(signal);
            watch.running.end().expect(0);
            lab.assert_converged(&switch("a", 100));
            lab.pcn("destroy --yes a").expect(0);
        }
    });
}

#[test]
fn another_takes_over_from_one_that_was_killed() {
    run_test(|lab| {
        let file = watched().join("a.yaml");
        for turn in 0..6 {
            fs::write(&file, switch("a", 100 + turn)).expect("a file in a tmpfs");
            let mut watch = Watch::start(lab, &format!("-f {}", file.display()));
            watch.wait_for(0, if turn % 2 == 0 { "started" } else { APPLIED });
            watch.running.kill();
            let mut watch = Watch::start(lab, &format!("-f {}", file.display()));
            watch.wait_for_aging("a", 100 + turn);
            fs::write(&file, switch("a", 200 + turn)).expect("a file in a tmpfs");
            watch.wait_for_aging("a", 200 + turn);
            watch.stop();
            lab.assert_converged(&switch("a", 200 + turn));
        }
    });
}

#[test]
fn another_pcn_at_work_is_waited_for() {
    run_test(|lab| {
        let directory = watched();
        let root = lab.pin("");
        let root = Path::new(
            root.to_str()
                .expect("a path in UTF-8")
                .trim_end_matches('/'),
        );
        let lock = Lock::acquire(root, &"a".parse().expect("a name"), Duration::ZERO)
            .expect("nobody else writes");
        fs::write(directory.join("a.yaml"), switch("a", 100)).expect("a file in a tmpfs");
        fs::write(directory.join("b.yaml"), switch("b", 100)).expect("a file in a tmpfs");
        let mut watch = Watch::start(lab, &format!("-f {DIRECTORY}"));
        watch.wait_for(0, "another pcn is changing this topology");
        // Others are not held up.
        watch.wait_for_aging("b", 100);
        drop(lock);
        watch.wait_for_aging("a", 100);
        watch.stop();
    });
}

/// What waits for a confirmation is left alone, and not applied again when nobody confirmed it.
#[test]
fn a_commit_that_waits() {
    run_test(|lab| {
        let file = watched().join("a.yaml");
        lab.apply(&switch("a", 100));
        let text = switch("a", 101);
        fs::write(&file, &text).expect("a file in a tmpfs");
        lab.pcn(&format!(
            "apply --yes --confirm-timeout 10m -f {}",
            file.display()
        ))
        .expect(0);
        let mut watch = Watch::start(lab, &format!("-v -f {}", file.display()));
        watch.wait_for(0, "left alone");
        lab.pcn("rollback a").expect(0);
        watch.running.signal(Signal::SIGHUP);
        watch.wait_for(0, "it was not confirmed");
        lab.assert_converged(&switch("a", 100));
        // A change is another matter.
        fs::write(&file, edit(&text, "101s", "102s")).expect("a file in a tmpfs");
        watch.wait_for_aging("a", 102);
        watch.stop();
    });
}

#[test]
fn what_systemd_hears() {
    run_test(|lab| {
        let file = watched().join("a.yaml");
        fs::write(&file, switch("a", 100)).expect("a file in a tmpfs");
        let path = "/run/test/notify";
        let socket = UnixDatagram::bind(path).expect("a socket in a tmpfs");
        socket
            .set_read_timeout(Some(wait::PATIENCE))
            .expect("a socket can time out");
        let running = lab.start_pcn_with(
            &format!("watch --interval 1h --poll 1h -f {}", file.display()),
            &[("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", "300000")],
        );
        let hear = || {
            let mut buffer = [0; 1024];
            let length = socket.recv(&mut buffer).expect("it says something");
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        let hear_until = |wanted: &str| {
            let mut all = Vec::new();
            while !all
                .last()
                .is_some_and(|last: &String| last.contains(wanted))
            {
                all.push(hear());
                assert!(all.len() < 100, "no {wanted} in {all:?}");
            }
            all
        };
        let start = hear_until("READY=1");
        assert!(
            start.iter().any(|text| text.contains("WATCHDOG=1")),
            "{start:?}"
        );
        assert!(
            start.iter().any(|text| text.contains("STATUS=1 in step")),
            "{start:?}"
        );
        lab.assert_converged(&switch("a", 100));
        // Alive, without anything else going on.
        hear_until("WATCHDOG=1");
        hear_until("WATCHDOG=1");
        running.signal(Signal::SIGHUP);
        let reload = hear_until("RELOADING=1");
        assert!(
            reload
                .last()
                .is_some_and(|text| text.contains("MONOTONIC_USEC=")),
            "{reload:?}"
        );
        hear_until("READY=1");
        running.signal(Signal::SIGTERM);
        hear_until("STOPPING=1");
        running.end().expect(0);
    });
}

/// It needs no more than the unit gives it.
#[test]
fn with_the_capabilities_of_the_unit_only() {
    run_test(|lab| {
        let file = watched().join("a.yaml");
        fs::write(&file, switch("a", 100)).expect("a file in a tmpfs");
        let unit = include_str!("../../../../packaging/systemd/pcn-watch.service");
        let bound = unit
            .lines()
            .find_map(|line| line.strip_prefix("CapabilityBoundingSet="))
            .expect("the unit bounds capabilities");
        let set: String = bound
            .split_whitespace()
            .map(|name| format!(",+{}", name.trim_start_matches("CAP_").to_lowercase()))
            .collect();
        let running = lab.start_pcn_under(
            &format!("setpriv --no-new-privs --bounding-set=-all{set} --inh-caps=-all"),
            &format!("watch --interval 1h --poll 1h -f {}", file.display()),
        );
        let mut watch = Watch { lab, running };
        watch.wait_for(0, APPLIED);
        lab.assert_converged(&switch("a", 100));
        assert!(
            !watch.running.stderr().contains("CAP_NET_BROADCAST"),
            "{}",
            watch.running.stderr()
        );
        let from = watch.log_length();
        lab.space("a-h")
            .run("ip address del 10.0.0.1/24 dev eth0")
            .expect(0);
        watch.wait_for(from, APPLIED);
        // Namespaces are made, and deleted with what is in them.
        fs::write(
            &file,
            edit(&switch("a", 100), "cubes:", "  other: {}\n  cubes:"),
        )
        .expect("a file in a tmpfs");
        wait::until("the namespace", || {
            Path::new("/run/netns/other").exists().then_some(())
        });
        fs::write(&file, switch("a", 101)).expect("a file in a tmpfs");
        watch.wait_for_aging("a", 101);
        assert!(!Path::new("/run/netns/other").exists());
        watch.stop();
    });
}

/// The unit is one that systemd understands, and does not part the mounts of namespaces from the
/// machine's.
#[test]
fn the_unit() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../packaging/systemd/pcn-watch.service"
    );
    let unit = fs::read_to_string(path).expect("the unit is there");
    for line in [
        "Type=notify",
        "ExecReload=kill -HUP $MAINPID",
        "Restart=on-failure",
        "NoNewPrivileges=yes",
    ] {
        assert!(unit.lines().any(|found| found == line), "no {line}");
    }
    for directive in [
        "ProtectSystem",
        "ProtectHome",
        "PrivateTmp",
        "PrivateDevices",
        "PrivateMounts",
        "ProtectKernelTunables",
        "ProtectControlGroups",
        "ProtectKernelModules",
        "ProtectKernelLogs",
        "ProtectProc",
        "ProcSubset",
        "ReadOnlyPaths",
        "ReadWritePaths",
        "InaccessiblePaths",
        "TemporaryFileSystem",
        "BindPaths",
        "PrivateNetwork",
        "RootDirectory",
        "MountAPIVFS",
        "RuntimeDirectory",
        "PrivateUsers",
        "DynamicUser",
    ] {
        let found = unit
            .lines()
            .find(|line| line.starts_with(&format!("{directive}=")));
        assert_eq!(
            found, None,
            "it makes a mount namespace, or takes away what stays"
        );
    }
    if Path::new("/usr/bin/systemd-analyze").exists() {
        let verified = run(&format!(
            "systemd-analyze verify --recursive-errors=no {path}"
        ));
        let complaints: Vec<&str> = verified
            .stderr
            .lines()
            // The binary and its manual are not installed where tests run.
            .filter(|line| {
                line.contains("pcn-watch")
                    && !line.contains("is not executable")
                    && !line.contains("Command 'man")
            })
            .collect();
        assert_eq!(complaints, [""; 0], "{verified}");
    }
}
