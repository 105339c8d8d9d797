//! Metrics: what they say is what `pcn show` says, and only this machine can ask.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
};

use integration_tests::{
    command::run,
    lab::{Lab, run_test},
    openmetrics::Metrics,
    wait,
};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{BASE, assert_base_works, edit, foreign::WIRE};

const SOCKET: &str = "/run/pcn/metrics.sock";

fn metrics(lab: &Lab, name: &str) -> Metrics {
    Metrics::read(&lab.pcn(&format!("metrics {name}")).expect(0).stdout)
}

/// Metrics and what `show` says, from a moment in which nothing was counted.
fn both(lab: &Lab) -> (Metrics, Value) {
    wait::until("a moment without packets", || {
        let before = lab.show("live")["cubes"].clone();
        let metrics = metrics(lab, "live");
        let show = lab.show("live");
        (show["cubes"] == before).then_some((metrics, show))
    })
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// Volumes and drops of one place are the same in both.
fn assert_same(metrics: &Metrics, family: &str, place: &[(&str, &str)], shown: &Value) -> f64 {
    let with = |name: &'static str, value| [place, &[(name, value)]].concat();
    for direction in ["rx", "tx"] {
        for unit in ["packets", "bytes"] {
            assert_eq!(
                metrics.value(
                    &format!("{family}_{unit}_total"),
                    &with("direction", direction)
                ),
                number(&shown[direction][unit]),
                "{place:?} {direction} {unit}"
            );
        }
    }
    for (reason, count) in shown["drops"].as_object().expect("drops") {
        assert_eq!(
            metrics.value(&format!("{family}_drops_total"), &with("reason", reason)),
            number(count)
        );
    }
    number(&shown["rx"]["packets"])
}

#[test]
fn they_are_what_show_says() {
    run_test(|lab| {
        lab.apply(BASE);
        assert_base_works(lab);
        // Nobody has that address.
        lab.space("h1").run("ping -c 1 -W 0.2 10.2.0.99");
        let (metrics, show) = both(lab);
        let (mut packets, mut ports) = (0.0, 0);
        for (cube, item) in show["cubes"].as_object().expect("cubes") {
            let place = [("topology", "live"), ("cube", cube.as_str())];
            for (port, shown) in item["ports"].as_object().expect("ports") {
                let place = [&place[..], &[("port", port.as_str())]].concat();
                assert_eq!(metrics.value("pcn_port_up", &place), 1.0);
                packets += assert_same(&metrics, "pcn_port", &place, shown);
                ports += 1;
            }
            for (endpoint, shown) in item["attachments"].as_object().expect("attachments") {
                for path in ["ingress", "egress"] {
                    let more = [("attachment", endpoint.as_str()), ("path", path)];
                    let place = [&place[..], &more[..]].concat();
                    packets += assert_same(&metrics, "pcn_attachment", &place, &shown[path]);
                }
            }
            for (map, table) in item["tables"].as_object().expect("tables") {
                let place = [&place[..], &[("map", map.as_str())]].concat();
                let (entries, capacity) = (number(&table["entries"]), number(&table["capacity"]));
                assert_eq!(metrics.value("pcn_map_entries", &place), entries);
                assert_eq!(metrics.value("pcn_map_capacity", &place), capacity);
                assert_eq!(
                    metrics.value("pcn_map_fill_ratio", &place),
                    entries / capacity
                );
            }
        }
        assert!(
            ports == 5 && packets > 30.0,
            "{ports} ports, {packets} packets"
        );
        let drops = &metrics.samples["pcn_port_drops_total"];
        let unresolved = |labels: &&_| {
            let labels: &integration_tests::openmetrics::Labels = labels;
            labels["reason"] == "neighborUnresolved" && labels["cube"] == "r"
        };
        assert!(drops.keys().any(|labels| unresolved(&labels)), "{drops:?}");
        // What was learned is counted, and what the file says.
        let map = |cube, map| [("topology", "live"), ("cube", cube), ("map", map)];
        assert!(metrics.value("pcn_map_entries", &map("br", "fdb")) >= 3.0);
        assert_eq!(
            metrics.value("pcn_map_entries", &map("br", "static_fdb")),
            1.0
        );
        // As many as the kernel has, counted by somebody else.
        let pin = lab.pin("live/cubes/br/fdb");
        let dump = run(&format!("bpftool -j map dump pinned {}", pin.display()));
        let entries = dump.expect(0).json().as_array().expect("a list").len();
        assert_eq!(
            metrics.value("pcn_map_entries", &map("br", "fdb")),
            entries as f64
        );
    });
}

#[test]
fn they_say_what_is_wrong() {
    run_test(|lab| {
        let topology = [("topology", "wires")];
        lab.apply(WIRE);
        let before = metrics(lab, "");
        assert_eq!(before.value("pcn_pending_objects", &topology), 1.0);
        assert_eq!(before.value("pcn_topology_ready", &topology), 0.0);
        assert_eq!(before.value("pcn_drift_objects", &topology), 0.0);
        assert_eq!(before.value("pcn_topology_generation", &topology), 1.0);
        assert_eq!(before.value("pcn_lock_held", &topology), 0.0);
        let port = [("topology", "wires"), ("cube", "br"), ("port", "w")];
        assert_eq!(before.value("pcn_port_up", &port), 0.0);
        let applied = before.value("pcn_last_applied_timestamp_seconds", &topology);
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970");
        assert!((now.as_secs_f64() - applied).abs() < 60.0, "{applied}");

        run("ip -netns h address del 10.0.0.1/24 dev eth0").expect(0);
        let lock = lab.lock("wires");
        let after = metrics(lab, "wires");
        drop(lock);
        assert_eq!(after.value("pcn_drift_objects", &topology), 1.0);
        assert_eq!(after.value("pcn_lock_held", &topology), 1.0);
        // Nothing is said of rounds that were not made.
        assert!(!after.samples.contains_key("pcn_reconcile_total"));

        let missing = lab.pcn("metrics other").expect(1);
        assert!(missing.stderr.contains("applied: wires"), "{missing}");
        lab.pcn("destroy --yes wires").expect(0);
        assert!(!metrics(lab, "").samples.contains_key("pcn_topology_ready"));
    });
}

/// Asks over HTTP; the status line, the head and the body.
fn ask(mut stream: impl Read + Write, request: &str) -> (String, String, String) {
    stream
        .write_all(format!("{request}\r\nHost: here\r\n\r\n").as_bytes())
        .expect("a request can be sent");
    let mut text = String::new();
    stream
        .read_to_string(&mut text)
        .expect("an answer in UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let (status, head) = head.split_once("\r\n").expect("a status");
    (status.to_owned(), head.to_owned(), body.to_owned())
}

#[test]
fn watch_serves_them_to_this_machine() {
    run_test(|lab| {
        let path = lab.file("base.yaml", BASE);
        for far in [
            "0.0.0.0:9464",
            "10.1.2.3:9464",
            "[::]:9464",
            "unix:sock",
            "9464",
        ] {
            lab.pcn(&format!("watch -f {path} --metrics {far}"))
                .expect(64);
        }
        let unix = lab.start_pcn(&format!(
            "watch -f {path} --interval 100ms --metrics unix:{SOCKET}"
        ));
        let connect = || wait::until("the socket", || UnixStream::connect(SOCKET).ok());
        let scrape = || {
            let (status, head, body) = ask(connect(), "GET /metrics HTTP/1.1");
            assert_eq!(status, "HTTP/1.1 200 OK");
            let kind = "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8";
            assert!(head.contains(kind), "{head}");
            assert!(
                head.contains(&format!("Content-Length: {}", body.len())),
                "{head}"
            );
            Metrics::read(&body)
        };
        let of = |result| [("topology", "live"), ("result", result)];
        let done = wait::until("rounds", || {
            let metrics = scrape();
            let unchanged = metrics.find("pcn_reconcile_total", &of("unchanged"));
            (unchanged? >= 2.0).then_some(metrics)
        });
        assert_eq!(done.value("pcn_reconcile_total", &of("applied")), 1.0);
        assert_eq!(done.value("pcn_reconcile_total", &of("rolledBack")), 0.0);
        let topology = [("topology", "live")];
        assert_eq!(done.value("pcn_apply_rollbacks_total", &topology), 0.0);
        assert!(done.value("pcn_reconcile_duration_seconds_count", &topology) >= 3.0);
        assert_eq!(done.value("pcn_topology_ready", &topology), 1.0);

        assert_eq!(ask(connect(), "GET / HTTP/1.1").0, "HTTP/1.1 404 Not Found");
        let (status, head, _) = ask(connect(), "POST /metrics HTTP/1.1");
        assert_eq!(status, "HTTP/1.1 405 Method Not Allowed");
        assert!(head.contains("Allow: GET, HEAD"), "{head}");
        let (status, _, body) = ask(connect(), "HEAD /metrics HTTP/1.0");
        assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 200 OK", ""));
        // Nobody who says nothing, or too much, keeps others from being served.
        drop(connect());
        let mut flood = connect();
        let _refused = flood.write_all(&[b'x'; 64 << 10]);
        scrape();

        // One that runs is not pushed aside.
        let second = lab
            .pcn(&format!("watch -f {path} --metrics unix:{SOCKET}"))
            .expect(1);
        assert!(second.stderr.contains(SOCKET), "{second}");
        unix.signal(Signal::SIGTERM);
        unix.end().expect(0);
        assert!(!Path::new(SOCKET).exists());
        // One that was killed leaves a file that is in nobody's way.
        let killed = lab.start_pcn(&format!("watch -f {path} --metrics unix:{SOCKET}"));
        connect();
        killed.kill();
        assert!(Path::new(SOCKET).exists());

        let tcp = lab.start_pcn(&format!(
            "watch -f {path} --interval 100ms --metrics 127.0.0.1:9464"
        ));
        let stream = wait::until("the port", || TcpStream::connect("127.0.0.1:9464").ok());
        let (status, _, body) = ask(stream, "GET /metrics HTTP/1.1");
        assert_eq!(status, "HTTP/1.1 200 OK");
        Metrics::read(&body);
        tcp.signal(Signal::SIGTERM);
        tcp.end().expect(0);
        let _file = fs::remove_file(SOCKET);
    });
}

#[test]
fn a_failing_round_is_counted() {
    run_test(|lab| {
        run("ip netns add h2").expect(0);
        let path = lab.file("base.yaml", &edit(BASE, "name: live", "name: other"));
        let watch = lab.start_pcn(&format!("watch -f {path} --metrics unix:{SOCKET}"));
        wait::until("a failure", || {
            let stream = UnixStream::connect(SOCKET).ok()?;
            let metrics = Metrics::read(&ask(stream, "GET /metrics HTTP/1.1").2);
            let labels = [("topology", "other"), ("result", "failed")];
            (metrics.find("pcn_reconcile_total", &labels)? >= 1.0).then_some(())
        });
        watch.signal(Signal::SIGTERM);
        watch.end().expect(0);
        run("ip netns delete h2").expect(0);
    });
}
