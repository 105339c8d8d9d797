//! Round trips, by sockperf: a message goes to the server and back, and then the next one.
//!
//! Client and server are on one CPU. On two of them, each message wakes a CPU that has gone to sleep, which takes the
//! hypervisor ten times as long as all else, and differs from run to run.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    process::Command,
};

use integration_tests::command::{Running, start_command};

use super::{Cube, Findings, Goals, Scope, against, all, hosts, wait_for_server};
use crate::{
    contest::Contest,
    finding::{Goal, Unit},
    rig::{hosts::Hosts, quiet_cpu},
};

/// sockperf's own.
const PORT: u16 = 11111;
/// Payload of a message in bytes.
const MESSAGE: usize = 64;
/// Seconds of one sample; sockperf knows no shorter ones. It leaves out the first 0.4 of it.
const SECONDS: u32 = 1;
/// Seconds between two clients. Each waits for 2.1 before it sends anything (sockperf 3.7), so all clients of a round are begun
/// ahead: the next one sends when one has ended, and none begins or ends within what counts of another.
const APART: f64 = 1.15;
/// Rounds are this many times fewer: one takes up to ten seconds.
const FEWER: usize = 4;

/// What messages are sent with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// One connection.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Protocol {
    /// As ids write it, and `ss`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// As sockperf has it: UDP if nothing is said.
    fn option(self) -> &'static str {
        match self {
            Self::Tcp => "--tcp",
            Self::Udp => "",
        }
    }
}

/// Measures the median and the 99th percentile.
pub fn round_trips(scope: &Scope<'_>, cube: Cube, protocol: Protocol) -> Findings {
    let (ours, peers) = all(scope, cube);
    let hosts = hosts(&ours, &peers);
    let servers: Vec<Running> = hosts.iter().map(|hosts| serve(hosts, protocol)).collect();
    let clients = RefCell::new(VecDeque::new());
    let tail = Cell::new(0.0);
    let sample = |place: usize| {
        let next = clients.borrow_mut().pop_front();
        let (begun, client): (usize, Running) = next.expect("all clients of a round are begun");
        assert_eq!(
            begun, place,
            "clients are begun in the order of their turns"
        );
        let text = client.end().expect(0).stdout;
        tail.set(percentile(&text, "99.000"));
        percentile(&text, "50.000")
    };
    let contest = Contest::new(Unit::Microseconds, "pcn", || sample(0))
        .beside(&tail)
        .before_each_round(|order| {
            let begun = order.iter().enumerate().map(|(turn, place)| {
                let delay = turn as f64 * APART;
                (*place, client(hosts[*place], protocol, delay))
            });
            clients.borrow_mut().extend(begun);
        });
    let goals = Goals {
        kernel: Goal::AtMost(0.85),
        single: Goal::AtMost(1.3),
        pair: Goal::AtMost(1.05),
    };
    let effort = scope.effort.divided(FEWER);
    let (half, mut late) = against(contest, &peers, goals, &sample).run_both(effort);
    drop(servers);
    for arm in &mut late.arms {
        // 1.10 of a veth pair; the same of the peers.
        if arm.goal == Some(Goal::AtMost(1.05)) {
            arm.goal = Some(Goal::AtMost(1.1));
        }
    }
    vec![(".p50", half), (".p99", late)]
}

/// Starts a server, until what is returned is dropped.
fn serve(hosts: &Hosts<'_>, protocol: Protocol) -> Running {
    let line = format!(
        "taskset -c {} sockperf server {} -i {} -p {PORT}",
        quiet_cpu(),
        protocol.option(),
        hosts.address
    );
    let server = hosts.server.start(&line);
    wait_for_server(hosts, protocol.word(), PORT);
    server
}

/// Starts a client, after so many seconds.
fn client(hosts: &Hosts<'_>, protocol: Protocol, delay: f64) -> Running {
    let line = format!(
        "sleep {delay:.2}; exec taskset -c {} sockperf ping-pong {} -i {} -p {PORT} -m {MESSAGE} -t {SECONDS} \
         --mps=max --full-rtt",
        quiet_cpu(),
        protocol.option(),
        hosts.address
    );
    let mut command = Command::new("sh");
    command.args(["-c", &line]);
    hosts.client.enter(|| start_command(command, &line, ""))
}

/// Microseconds below which so many percent of the round trips are, in sockperf's report.
fn percentile(report: &str, percent: &str) -> f64 {
    let name = format!("percentile {percent} =");
    let rest = report.lines().find_map(|line| line.split_once(&name));
    rest.and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or_else(|| panic!("no `{name}` in sockperf's report: {report}"))
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_in_the_report() {
        let report = "sockperf: Summary: Round trip is 5.360 usec\n\
                      sockperf: ---> percentile 99.990 =   61.480\n\
                      sockperf: ---> percentile 99.000 =    5.668\n\
                      sockperf: ---> percentile 50.000 =    5.232\n";
        assert_eq!(percentile(report, "50.000"), 5.232);
        assert_eq!(percentile(report, "99.000"), 5.668);
    }

    #[test]
    #[should_panic(expected = "No valid observations")]
    fn a_report_without_them_is_no_result() {
        percentile("sockperf: No valid observations found.\n", "50.000");
    }
}
