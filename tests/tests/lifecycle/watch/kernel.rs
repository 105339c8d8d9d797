//! What the kernel announces: drift, and interfaces that come and go.

use std::{
    os::fd::AsFd as _,
    path::Path,
    time::{Duration, Instant},
};

use integration_tests::{
    command::run,
    lab::{Lab, Station, run_test},
    traffic::ping,
    wait,
};
use reconciler::kernel::linux::bpf;

use super::{APPLIED, Watch};
use crate::{BASE, ip};

#[test]
fn drift_that_the_kernel_announces() {
    run_test(|lab| {
        let file = lab.file("base.yaml", BASE);
        let mut watch = Watch::start(lab, &format!("-f {file}"));
        watch.wait_for(0, APPLIED);
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
            watch.wait_for(from, APPLIED);
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
        watch.wait_for(from, APPLIED);
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
        watch.wait_for(0, APPLIED);
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
            watch.wait_for(from, APPLIED);
            let show = lab.show("wires");
            assert_eq!(show["interfaces"]["wire0"]["state"], "pending", "{show}");
        }
        watch.stop();
    });
}

#[test]
fn drift_that_nobody_announces() {
    run_test(|lab| {
        let file = lab.file("base.yaml", BASE);
        let running = lab.start_pcn(&format!("watch --interval 1s --poll 1h -f {file}"));
        let mut watch = Watch { lab, running };
        watch.wait_for(0, APPLIED);
        let from = watch.log_length();
        let program = lab
            .ids()
            .into_keys()
            .find(|path| path.contains("/cubes/") && path.contains("/program-"))
            .expect("cubes have programs");
        std::fs::remove_file(lab.pin(&program)).expect("root can remove");
        watch.wait_for(from, "changes=1");
        lab.assert_converged(BASE);
        watch.stop();
    });
}

/// The kernel announces none of it, and the interval is an hour.
#[test]
fn what_is_detached_is_attached_again() {
    run_test(|lab| {
        let file = lab.file("base.yaml", BASE);
        let mut watch = Watch::start(lab, &format!("-f {file}"));
        watch.wait_for(0, APPLIED);
        let h1 = lab.space("h1");
        let find = |lab: &Lab| {
            let links = lab.ids().into_keys();
            links
                .filter(|path| path.contains("/link-"))
                .collect::<Vec<_>>()
        };
        let detach: [fn(&Path); 2] = [
            |pin| {
                let link = bpf::open(pin).expect("it is pinned");
                bpf::detach_link(link.as_fd()).expect("root can detach");
            },
            |pin| std::fs::remove_file(pin).expect("root can remove"),
        ];
        for detach in detach {
            for link in find(lab) {
                let from = watch.log_length();
                let start = Instant::now();
                detach(&lab.pin(&link));
                watch.wait_for(from, APPLIED);
                let took = start.elapsed();
                assert!(took < Duration::from_secs(2), "{link}: {took:?}");
                assert_eq!(ping(&h1, ip("10.2.0.1")), 63, "{link}");
            }
        }
        lab.assert_converged(BASE);
        watch.stop();
    });
}

/// Interfaces of other namespaces, and the machine's that no topology names, are of no concern.
#[test]
fn what_concerns_nobody() {
    run_test(|lab| {
        let file = lab.file("base.yaml", BASE);
        let running = lab.start_pcn(&format!("watch --interval 1h --poll 1h -v -f {file}"));
        let mut watch = Watch { lab, running };
        watch.wait_for(0, APPLIED);
        // The look that our own announcements cause.
        watch.wait_for(0, "in step");
        let rounds = |watch: &Watch<'_>| watch.running.stderr().matches("in step").count();
        let before = rounds(&watch);
        let station = Station::new("s", "foreign0", &["10.9.9.1/24"]);
        for _ in 0..10 {
            run("ip link set foreign0 down").expect(0);
            run("ip link set foreign0 up").expect(0);
            station.run("ip address add 10.9.9.2/24 dev eth0").expect(0);
            station.run("ip address del 10.9.9.2/24 dev eth0").expect(0);
        }
        // Announcements come in their order: what follows is noticed after all of these.
        let from = watch.log_length();
        lab.space("h1").run("ip link set eth0 mtu 1300").expect(0);
        watch.wait_for(from, APPLIED);
        assert_eq!(rounds(&watch), before, "{}", watch.running.stderr());
        watch.stop();
    });
}

/// A frame that XDP cannot take makes the kernel refuse to attach.
#[test]
fn what_was_rolled_back_waits_for_its_interface() {
    run_test(|lab| {
        let station = Station::new("s", "wire0", &["10.0.0.2/24"]);
        station.run("ip link set eth0 mtu 9000").expect(0);
        let text = crate::edit(
            &wires(),
            "  cubes:",
            "  interfaces: { wire0: { hook: xdp } }\n  cubes:",
        );
        let file = lab.file("wires.yaml", &text);
        let mut watch = Watch::start(lab, &format!("-f {file}"));
        watch.wait_for(0, "rolled back: ");
        watch.wait_for(
            0,
            "no further attempt until the file or its interfaces change",
        );
        let failures = |watch: &Watch<'_>| watch.running.stderr().matches("rolled back: ").count();
        // Its own announcements, and an interface that looks as before, are no reason.
        run("ip link set wire0 alias same").expect(0);
        run("ip link set wire0 alias again").expect(0);
        assert!(
            wait::within(Duration::from_secs(2), || (failures(&watch) > 1)
                .then_some(()))
            .is_none()
        );
        // Another frame size is one. It still fails, and waits again.
        let from = watch.log_length();
        run("ip link set wire0 mtu 1400").expect(0);
        watch.wait_for(from, "rolled back: ");
        assert_eq!(failures(&watch), 2);
        // Now it works.
        let from = watch.log_length();
        station.run("ip link set eth0 mtu 1500").expect(0);
        run("ip link set wire0 mtu 1500").expect(0);
        watch.wait_for(from, APPLIED);
        lab.assert_converged(&text);
        watch.stop();
        lab.pcn("destroy --yes wires").expect(0);
        drop(station);
    });
}
