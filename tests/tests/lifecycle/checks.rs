//! Checks of a topology: what does not answer takes the apply back.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    thread,
};

use integration_tests::{
    lab::{Lab, run_test},
    traffic::{no_ping, ping},
};

use crate::{BASE, assert_base_works, differences, edit, ids, ip};

fn with_checks(text: &str, checks: &str) -> String {
    format!("{text}  checks:\n{checks}")
}

/// A server that answers each connection with the same words.
struct Server {
    address: SocketAddr,
    listener: TcpListener,
}

impl Server {
    fn start(lab: &Lab, space: &str, address: &str, answer: &'static str) -> Self {
        let listener = lab.space(space).listen(ip(address));
        let address = listener.local_addr().expect("it is bound");
        let accepting = listener.try_clone().expect("a socket can be shared");
        thread::spawn(move || {
            while let Ok((mut stream, _)) = accepting.accept() {
                let mut request = [0; 512];
                // A check of TCP alone sends nothing.
                let count = stream.read(&mut request).unwrap_or_default();
                if count > 0 {
                    let request = String::from_utf8_lossy(&request[..count]);
                    assert!(
                        request.starts_with("GET /health?x=1 HTTP/1.1\r\n"),
                        "{request}"
                    );
                    let _gone = stream.write_all(answer.as_bytes());
                }
            }
        });
        Self { address, listener }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ends the thread's wait.
        nix::sys::socket::shutdown(
            std::os::fd::AsRawFd::as_raw_fd(&self.listener),
            nix::sys::socket::Shutdown::Both,
        )
        .expect("a socket that listens");
    }
}

#[test]
fn what_answers_is_applied() {
    run_test(|lab| {
        lab.apply(BASE);
        let four = Server::start(lab, "h3", "10.2.0.1", "HTTP/1.1 200 OK\r\n\r\n");
        let six = Server::start(lab, "h3", "fd00:2::1", "HTTP/1.0 204 No Content\r\n\r\n");
        let checks = format!(
            "    - {{ ping: 10.2.0.1, from: h1 }}
    - {{ ping: 'fd00:2::1', from: h1 }}
    - {{ ping: 127.0.0.1 }}
    - {{ tcp: '{four}', from: h1 }}
    - {{ tcp: '{six}', from: h2 }}
    - {{ name: health, http: 'http://{four}/health?x=1', from: h2 }}
    - {{ http: 'http://{six}/health?x=1', from: h1, status: 204 }}
",
            four = four.address,
            six = six.address
        );
        let text = with_checks(&edit(BASE, "agingTime: 300s", "agingTime: 200s"), &checks);
        let plan = lab.plan_json(&text);
        let changes = crate::addresses(&plan["changes"]);
        assert!(changes.contains(&"check/health"), "{plan}");
        assert!(changes.contains(&"check/0"), "{plan}");
        lab.apply(&text);
        lab.assert_converged(&text);
        let live = lab.pcn("show live -o yaml").expect(0).stdout;
        assert!(live.contains("name: health"), "{live}");
        // Checks come and go like anything else, and nothing else is touched for them.
        let before = ids(lab);
        let without = edit(BASE, "agingTime: 300s", "agingTime: 200s");
        let plan = lab.plan_json(&without);
        for change in plan["changes"].as_array().expect("a list") {
            assert_eq!(change["disruption"], "none", "{plan}");
        }
        lab.apply(&without);
        assert_eq!(differences(&before, &ids(lab)), [""; 0]);
    });
}

/// Each of them takes a change back that would lock a host out.
#[test]
fn what_does_not_answer_is_taken_back() {
    run_test(|lab| {
        lab.apply(BASE);
        let server = Server::start(lab, "h2", "10.1.0.2", "HTTP/1.1 503 Unavailable\r\n\r\n");
        let other = Server::start(lab, "h2", "10.1.0.2", "220 mail.example\r\n");
        let address = server.address;
        let changed = edit(
            BASE,
            "sources: [198.51.100.0/24]",
            "sources: [10.1.0.1/32, 'fd00:1::1/128']",
        );
        for (text, check, why) in [
            (
                &changed,
                "ping: 10.1.0.2, from: h1".to_owned(),
                "ping 10.1.0.2 from h1: no answer",
            ),
            (
                &changed,
                "ping: 'fd00:1::2', from: h1".to_owned(),
                "ping fd00:1::2 from h1: no answer",
            ),
            (&changed, format!("tcp: '{address}', from: h1"), "connect: "),
            (
                &changed,
                format!("http: 'http://{address}/health?x=1', from: h1"),
                "connect: ",
            ),
            (
                &changed,
                "tcp: '10.1.0.2:1', from: h3".to_owned(),
                "refused",
            ),
            (
                &changed,
                format!("http: 'http://{address}/health?x=1', from: h3"),
                "the status is 503, not 200",
            ),
            (
                &changed,
                format!("http: 'http://{}/health?x=1', from: h3", other.address),
                "the answer is not HTTP",
            ),
            // The host has no way there.
            (&changed, "ping: 10.1.0.2".to_owned(), "nreachable"),
        ] {
            let before = ids(lab);
            let text = with_checks(text, &format!("    - {{ {check}, timeout: 1s }}\n"));
            let path = lab.file("checked.yaml", &text);
            let run = lab.pcn(&format!("apply --yes -f {path}")).expect(4);
            assert!(run.stderr.contains(why), "{why}: {run}");
            assert!(run.stderr.contains("check failed: "), "{run}");
            assert!(
                run.stderr.contains("Everything is back as it was."),
                "{run}"
            );
            lab.assert_converged(BASE);
            assert_eq!(differences(&before, &ids(lab)), [""; 0]);
            assert_base_works(lab);
        }
    });
}

#[test]
fn a_first_apply_that_fails_its_checks_leaves_nothing() {
    run_test(|lab| {
        let text = with_checks(BASE, "    - { ping: 10.1.0.77, from: h1, timeout: 1s }\n");
        for arguments in ["", "--confirm-timeout 10m"] {
            let path = lab.file("checked.yaml", &text);
            let run = lab
                .pcn(&format!("apply --yes {arguments} -f {path}"))
                .expect(4);
            assert!(
                run.stderr.contains("ping 10.1.0.77 from h1: no answer"),
                "{run}"
            );
            assert!(lab.ids().is_empty(), "{:?}", lab.ids());
            assert!(!lab.pin("live").exists());
        }
    });
}

/// With a deadline, too: a failed check does not wait for it.
#[test]
fn checks_come_before_the_confirmation() {
    run_test(|lab| {
        lab.apply(BASE);
        let changed = edit(BASE, "sources: [198.51.100.0/24]", "sources: [10.1.0.1/32]");
        let bad = with_checks(
            &changed,
            "    - { ping: 10.1.0.2, from: h1, timeout: 1s }\n",
        );
        let good = with_checks(&changed, "    - { ping: 'fd00:1::2', from: h1 }\n");
        let path = lab.file("bad.yaml", &bad);
        lab.pcn(&format!("apply --yes --confirm-timeout 10m -f {path}"))
            .expect(4);
        lab.assert_converged(BASE);
        lab.pcn("confirm").expect(1);
        let path = lab.file("good.yaml", &good);
        lab.pcn(&format!("apply --yes --confirm-timeout 10m -f {path}"))
            .expect(0);
        no_ping(&lab.space("h1"), ip("10.1.0.2"));
        // A change on top of it that fails leaves what waits.
        let path = lab.file("bad.yaml", &bad);
        lab.pcn(&format!("apply --yes --confirm-timeout 10m -f {path}"))
            .expect(4);
        lab.assert_converged(&good);
        lab.pcn("confirm").expect(0);
        lab.assert_converged(&good);
    });
}

/// What is repaired has nothing to go back to.
#[test]
fn a_repair_stays_though_a_check_fails() {
    run_test(|lab| {
        let text = with_checks(BASE, "    - { ping: 10.1.0.2, from: h1, timeout: 1s }\n");
        lab.apply(&text);
        // The check succeeds because what drifted is repaired before it.
        lab.space("h2").run("ip link set eth0 down").expect(0);
        let link = lab
            .ids()
            .into_keys()
            .find(|path| path.contains("/link-"))
            .expect("something is attached");
        let link = lab.pin(&link).display().to_string();
        integration_tests::command::run(&format!("bpftool link detach pinned {link}")).expect(0);
        let path = lab.file("checked.yaml", &text);
        lab.pcn(&format!("apply --yes -f {path}")).expect(0);
        assert_eq!(ping(&lab.space("h1"), ip("10.1.0.2")), 64);
        let silent = with_checks(
            BASE,
            "    - { ping: 10.1.0.2, from: h1, timeout: 1s }\n    - { tcp: '10.2.0.1:9', from: h3, timeout: 1s }\n",
        );
        let server = lab
            .space("h3")
            .enter(|| TcpListener::bind("10.2.0.1:9"))
            .expect("a free port");
        lab.apply(&silent);
        drop(server);
        integration_tests::command::run(&format!("bpftool link detach pinned {link}")).expect(0);
        let path = lab.file("checked.yaml", &silent);
        let run = lab.pcn(&format!("apply --yes -f {path}")).expect(3);
        assert!(run.stderr.contains("nothing to go back to"), "{run}");
        lab.assert_converged(&silent);
    });
}
