//! What people do through a gateway: names, pages, bulk, the way and its MTU, through bridge, router, address translation and
//! firewall.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    thread,
};

use integration_tests::{
    command::Running,
    lab::{Lab, Space, run_test},
    traffic::{no_ping, ping, traceroute},
    wait,
};

use crate::ip;

/// A laptop behind a gateway, and a server behind a provider whose last link takes 1300 bytes.
fn gateway(firewall: &str) -> String {
    format!(
        "apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: {{ name: services }}
spec:
  namespaces:
    laptop:
      interfaces:
        eth0:
          addresses: [10.37.0.10/24, '2001:db8:37::10/64']
          routes: [{{ to: default, via: 10.37.0.1 }}, {{ to: default, via: '2001:db8:37::1' }}]
    server:
      interfaces:
        eth0:
          addresses: [198.51.100.10/24, '2001:db8:51::10/64']
          routes: [{{ to: default, via: 198.51.100.1 }}, {{ to: default, via: '2001:db8:51::1' }}]
  cubes:
    lan: {{ bridge: {{}} }}
    gw:
      router:
        ports:
          inside: {{ addresses: [10.37.0.1/24, '2001:db8:37::1/64'] }}
          outside: {{ addresses: [203.0.113.37/24, '2001:db8:113::37/64'], through: [fw, nat] }}
        routes: [{{ to: default, via: 203.0.113.1 }}, {{ to: default, via: '2001:db8:113::1' }}]
    provider:
      router:
        ports:
          customer: {{ addresses: [203.0.113.1/24, '2001:db8:113::1/64'] }}
          far: {{ addresses: [198.51.100.1/24, '2001:db8:51::1/64'], mtu: 1300 }}
        routes: [{{ to: '2001:db8:37::/64', via: '2001:db8:113::37' }}]
    fw: {{ firewall: {{ {firewall} ingress: {{ default: drop }} }} }}
    nat: {{ nat: {{ masquerade: [10.37.0.0/24] }} }}
  links:
    - [lan:laptop, laptop/eth0]
    - [lan:up, gw:inside]
    - [gw:outside, provider:customer]
    - [provider:far, server/eth0]
"
    )
}

const SERVERS: [&str; 2] = ["198.51.100.10", "2001:db8:51::10"];

/// Bytes of a page, and of what is sent to the server.
const PAGE: usize = 1 << 20;

#[test]
fn services_work_through_a_gateway() {
    run_test(|lab| all_services(lab, ""));
}

#[test]
fn services_work_where_windows_are_checked() {
    run_test(|lab| all_services(lab, "tcpWindowCheck: true,"));
}

fn all_services(lab: &Lab, firewall: &str) {
    lab.apply(&gateway(firewall));
    let (laptop, server) = (lab.space("laptop"), lab.space("server"));
    for address in SERVERS {
        assert_eq!(ping(&laptop, ip(address)), 62);
    }
    ways(&laptop);
    names(&laptop, &server);
    path_mtu(&laptop);
    pages(lab, &laptop, &server);
    bulk(&laptop, &server);
    // Nobody comes in unasked.
    no_ping(&server, ip("2001:db8:37::10"));
    no_ping(&server, ip("203.0.113.37"));
    let shown = lab.show("services")["cubes"].clone();
    let sessions = |cube: &str| shown[cube]["sessions"].as_array().expect("a list").len();
    assert!(sessions("fw") > 8, "{shown}");
    assert!(sessions("nat") > 4, "{shown}");
    assert_eq!(shown["fw"]["firewall"]["tableFull"], 0);
}

/// The routers on the way are seen through the translation, and through the firewall in IPv6: what they say is related.
fn ways(laptop: &Space) {
    let way = ["10.37.0.1", "203.0.113.1", "198.51.100.10"].map(ip);
    assert_eq!(traceroute(laptop, ip(SERVERS[0])), way);
    let way = ["2001:db8:37::1", "2001:db8:113::1", "2001:db8:51::10"].map(ip);
    assert_eq!(traceroute(laptop, ip(SERVERS[1])), way);
}

/// Names over UDP and over TCP, and an answer that is too long for UDP.
fn names(laptop: &Space, server: &Space) {
    let long = "x".repeat(200);
    let running = server.start(&format!(
        "dnsmasq --keep-in-foreground --conf-file=/dev/null --pid-file= --user=root --no-resolv --no-hosts \
         --bind-interfaces --listen-address={} --listen-address={} --address=/www.example.net/{} --address=/www.example.net/{} \
         --txt-record=long.example.net,{long},{long},{long}",
        SERVERS[0], SERVERS[1], SERVERS[0], SERVERS[1]
    ));
    for at in SERVERS {
        for (kind, answer) in [("A", SERVERS[0]), ("AAAA", SERVERS[1])] {
            for over in ["+notcp", "+tcp"] {
                let question =
                    format!("dig +short +time=1 +tries=1 {over} @{at} www.example.net {kind}");
                wait::until(&format!("an answer to {question}"), || {
                    (laptop.run(&question).stdout.trim() == answer).then_some(())
                });
            }
        }
        let long_answer = laptop
            .run(&format!("dig +noedns +time=2 @{at} long.example.net TXT"))
            .expect(0);
        assert!(
            long_answer.stdout.contains("retrying in TCP mode"),
            "{long_answer}"
        );
        assert!(long_answer.stdout.contains(&long), "{long_answer}");
    }
    running.signal(nix::sys::signal::Signal::SIGTERM);
    running.end();
}

/// What is too long is said by the router at the last link, and believed by the host behind the translation.
fn path_mtu(laptop: &Space) {
    for (address, said) in [(SERVERS[0], "mtu = 1300"), (SERVERS[1], "mtu=1300")] {
        let run = laptop.run(&format!("ping -n -c 1 -W 2 -M do -s 1400 {address}"));
        assert!(
            run.stdout.contains(said) || run.stderr.contains(said),
            "{run}"
        );
        let route = laptop.run(&format!("ip route get {address}")).expect(0);
        assert!(route.stdout.contains("mtu 1300"), "{route}");
    }
}

/// A page that is fetched, and a file that is sent: its segments must fit the last link.
fn pages(lab: &Lab, laptop: &Space, server: &Space) {
    let upload = lab.file("upload", &"u".repeat(PAGE));
    for address in SERVERS {
        // Routes know the MTU by now: forget it, so that TCP must find out by itself.
        laptop.run("ip route flush cache").expect(0);
        laptop.run("ip -6 route flush cache").expect(0);
        let listener =
            server.enter(|| TcpListener::bind((ip(address), 80)).expect("the port is free"));
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..2 {
                    serve(&listener.accept().expect("a connection").0);
                }
            });
            let host = match ip(address) {
                IpAddr::V4(address) => address.to_string(),
                IpAddr::V6(address) => format!("[{address}]"),
            };
            let curl = "curl --silent --show-error --max-time 20 --output /dev/null --write-out %{http_code}_%{size_download}_%{size_upload}";
            let got = laptop.run(&format!("{curl} http://{host}/")).expect(0);
            assert_eq!(got.stdout, format!("200_{PAGE}_0"));
            let sent = laptop
                .run(&format!("{curl} --upload-file {upload} http://{host}/"))
                .expect(0);
            assert_eq!(sent.stdout, format!("200_{PAGE}_{PAGE}"));
        });
    }
}

/// Answers one request: reads what comes with it, and sends the page.
fn serve(stream: &TcpStream) {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length, mut waits) = (String::new(), 0, false);
    loop {
        line.clear();
        reader.read_line(&mut line).expect("a header");
        let header = line.trim().to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
        waits |= header.starts_with("expect:");
        if header.is_empty() {
            break;
        }
    }
    let mut stream = stream;
    if waits {
        stream
            .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
            .expect("it is connected");
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the whole of it");
    assert!(body.iter().all(|byte| *byte == b'u'));
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {PAGE}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("it is connected");
    stream
        .write_all(&vec![b'p'; PAGE])
        .expect("it is connected");
}

/// Much in both directions, in both families.
fn bulk(laptop: &Space, server: &Space) {
    /// Bytes that a second is enough for on any machine.
    const BYTES: u64 = 16 << 20;
    let running: Running = server.start("iperf3 --server");
    for address in SERVERS {
        let to = SocketAddr::new(ip(address), 5201);
        wait::until("iperf3 listens", || {
            let attempt = server.enter(|| TcpStream::connect(to));
            attempt.ok().map(drop)
        });
        for reverse in ["", " --reverse"] {
            let line = format!("iperf3 --json --client {address} --time 1{reverse}");
            let end = wait::until("a run of iperf3", || {
                // It serves one client at a time, and needs a moment between them.
                let run = laptop.run(&line).json();
                run.get("error").is_none().then_some(run["end"].clone())
            });
            let received = end["sum_received"]["bytes"].as_u64();
            assert!(received > Some(BYTES), "{line}: {end}");
        }
    }
    running.signal(nix::sys::signal::Signal::SIGTERM);
    running.end();
}
