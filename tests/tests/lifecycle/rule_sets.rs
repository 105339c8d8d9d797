//! Firewalls and lists of rules that are exchanged while packets flow: each packet meets one of them, from the
//! first rule to the last.

use std::{fmt::Write as _, time::Instant};

use integration_tests::{
    command::Run,
    lab::{Lab, run_test},
    stream::{Overflow, Stream, Tally, Way},
    traffic::ping,
};

use serde_json::Value;

use crate::{addresses, ip};

/// How often many rules are exchanged.
const CHANGES: usize = 20;
/// How often firewalls with few rules are: each takes less time.
const REPLACEMENTS: usize = 60;
/// Packets a second of each stream.
const RATE: u64 = 5000;
/// Rules beside those that count.
const OTHERS: u32 = 1000;

/// A router between two hosts, and a firewall in front of the second one, with rules for what goes there.
fn topology(rules: &str) -> String {
    with(&format!(
        "        conntrack: false
        egress:
          default: drop
          rules:
{rules}"
    ))
}

/// The same with any settings.
fn with(settings: &str) -> String {
    format!(
        "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: {{ name: rules }}
spec:
  namespaces:
    a:
      interfaces:
        eth0:
          addresses: [10.1.0.2/24, 10.1.0.66/24, 'fd00:1::2/64', 'fd00:1::66/64']
          routes: [{{ to: default, via: 10.1.0.1 }}, {{ to: default, via: 'fd00:1::1' }}]
    b:
      interfaces:
        eth0:
          addresses: [10.2.0.2/24, 'fd00:2::2/64']
          routes: [{{ to: default, via: 10.2.0.1 }}, {{ to: default, via: 'fd00:2::1' }}]
  links: [[r:a, a/eth0], [r:b, b/eth0]]
  cubes:
    r:
      router:
        ports:
          a: {{ addresses: [10.1.0.1/24, 'fd00:1::1/64'] }}
          b: {{ addresses: [10.2.0.1/24, 'fd00:2::1/64'], through: [fw] }}
    fw:
      firewall:
{settings}"
    )
}

/// What is exchanged. Of each pair the first decides, and it is the other one every time: a packet
/// that met one rule of the old list and one of the new would pass, or be dropped, against both.
fn exchanged(turn: bool) -> String {
    let mut rules = String::new();
    let mut rule = |name: &str, what: &str, action: &str| {
        let line = format!("            - {{ name: {name}, {what}, action: {action} }}");
        writeln!(rules, "{line}").expect("text grows");
    };
    let (first, second) = if turn { ("x", "y") } else { ("y", "x") };
    for (family, wanted, unwanted) in [
        ("v4", "source: 10.1.0.2/32", "source: 10.1.0.66/32"),
        ("v6", "source: 'fd00:1::2/128'", "source: 'fd00:1::66/128'"),
    ] {
        rule(&format!("pass-{family}-{first}"), wanted, "accept");
        rule(&format!("pass-{family}-{second}"), wanted, "drop");
        for number in 0..OTHERS / 2 {
            let port = 1 + number + if turn { 30_000 } else { 0 };
            let what = format!("protocol: tcp, destinationPort: {port}");
            rule(&format!("other-{family}-{number}"), &what, "accept");
        }
        rule(&format!("stop-{family}-{first}"), unwanted, "drop");
        rule(&format!("stop-{family}-{second}"), unwanted, "accept");
    }
    topology(&rules)
}

#[test]
fn no_packet_meets_half_a_list() {
    run_test(|lab| exchange(lab, CHANGES, &|change| exchanged(change % 2 == 0)));
}

/// Firewalls that do the same, each in another way: rules in the second program, with a default that drops or one that accepts, or
/// all of it in the first one. Whoever met the first program of one and the second one, the rules, or the default of another would
/// pass, be dropped, or find no program.
fn replaced(turn: usize) -> String {
    let wanted =
        "[{ source: 10.1.0.2/32, action: accept }, { source: 'fd00:1::2/128', action: accept }]";
    let unwanted = "[{ source: 10.1.0.66/32, action: drop }, { source: 'fd00:1::66/128', action: drop, log: true }]";
    let egress = match turn % 2 {
        0 => format!("{{ default: drop, rules: {wanted} }}"),
        _ => format!("{{ default: accept, rules: {unwanted} }}"),
    };
    let conntrack = turn % 3 != 2;
    with(&format!(
        "        conntrack: {conntrack}\n        egress: {egress}\n"
    ))
}

#[test]
fn no_packet_meets_half_a_firewall() {
    run_test(|lab| exchange(lab, REPLACEMENTS, &replaced));
}

/// Exchanges firewalls while packets flow, of which it is always the same that pass.
fn exchange(lab: &Lab, changes: usize, text: &dyn Fn(usize) -> String) {
    lab.apply(&text(1));
    let (a, b) = (lab.space("a"), lab.space("b"));
    ping(&b, ip("10.1.0.2"));
    ping(&b, ip("fd00:1::2"));
    let spaces = [&a, &b];
    let before = Overflow::of(&spaces);
    let start = |source: &str, target: &str| {
        let way = Way {
            from: &a,
            to: &b,
            source: ip(source),
            target: ip(target),
        };
        Stream::start(way, RATE)
    };
    let passes = [
        start("10.1.0.2", "10.2.0.2"),
        start("fd00:1::2", "fd00:2::2"),
    ];
    let stopped = [
        start("10.1.0.66", "10.2.0.2"),
        start("fd00:1::66", "fd00:2::2"),
    ];
    for change in 0..changes {
        lab.apply(&text(change));
        passes[0].go_on(RATE / 20);
    }
    let passes: Vec<Tally> = passes.into_iter().map(Stream::end).collect();
    let received: u64 = stopped.iter().map(Stream::received).sum();
    let sent: u64 = stopped.iter().map(Stream::sent).sum();
    drop(stopped);
    let overflow = Overflow::of(&spaces).since(before);
    let lost: u64 = passes.iter().map(|tally| tally.lost).sum();
    let all: u64 = passes.iter().map(|tally| tally.sent).sum();
    println!(
        "{changes} exchanges: {all} packets that pass, {lost} lost ({overflow:?}); {sent} that are stopped, \
         {received} came through"
    );
    assert!(all > 10 * RATE && sent > 10 * RATE, "there was traffic");
    assert_eq!(received, 0, "came through");
    assert!(lost <= overflow.queues + overflow.sockets, "{lost} lost");
    assert!(passes.iter().all(|tally| tally.duplicated == 0));
    lab.pcn("destroy --yes rules").expect(0);
}

/// This many rules, each about another host and port; `changed` has another port.
fn many(count: u32, changed: Option<u32>) -> String {
    let mut rules = String::from(
        "            - { name: pings, protocol: icmp, action: accept }\n            - { name: pings6, protocol: icmpv6, action: accept }\n",
    );
    for number in 0..count {
        let (high, low) = (number >> 8, number & 255);
        let port = 1000 + u32::from(changed == Some(number));
        let what = format!(
            "source: 10.64.{high}.{low}/32, protocol: tcp, destinationPort: {port}, action: drop"
        );
        writeln!(rules, "            - {{ name: r{number}, {what} }}").expect("text grows");
    }
    topology(&rules)
}

#[test]
fn one_of_many_rules_changes_by_itself() {
    run_test(|lab| {
        let text = many(2000, None);
        lab.apply(&text);
        let a = lab.space("a");
        ping(&a, ip("10.2.0.2"));
        let before = crate::ids(lab);
        let changed = many(2000, Some(777));
        let plan = lab.plan_json(&changed);
        assert_eq!(
            addresses(&plan["changes"]),
            ["cube/fw/egress/rules/r777"],
            "{plan}"
        );
        lab.apply(&changed);
        lab.assert_converged(&changed);
        ping(&a, ip("fd00:2::2"));
        assert_eq!(crate::differences(&before, &crate::ids(lab)), [""; 0]);
        lab.pcn("destroy --yes rules").expect(0);
    });
}

/// Seconds in the minute at which steps of an apply begin, by the log.
fn steps_of(run: &Run) -> Vec<(f64, String)> {
    let lines = run.stderr.lines().filter_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let op = line["op"].as_str()?;
        let time = line["timestamp"].as_str()?.trim_end_matches('Z');
        let (_, seconds) = time.rsplit_once(':')?;
        Some((seconds.parse().ok()?, op.to_owned()))
    });
    lines.collect()
}

/// Seconds from the first write until packets meet the new rules.
fn until_switched(steps: &[(f64, String)]) -> f64 {
    let first = steps.iter().find(|(_, op)| op.starts_with("WriteEntries"));
    let (from, _) = first.expect("entries are written");
    let switch = steps.iter().position(|(_, op)| op.starts_with("Activate"));
    // It is over when the next step begins.
    let (to, _) = steps[switch.expect("the bank is switched") + 1];
    (to - from).rem_euclid(60.0)
}

/// What a plan costs grows with the rules; what it does to the kernel does not.
#[test]
fn one_of_ten_thousand_rules_is_changed_within_milliseconds() {
    run_test(|lab| {
        lab.apply(&many(10_000, None));
        let apply = "--log reconciler::execute=debug --log-format json apply --yes --file -";
        let changes = [Some(777), None, Some(9_999)].map(|changed| {
            let run = lab.pcn_with(apply, &many(10_000, changed));
            let steps = steps_of(&run.expect(0));
            let writes = steps
                .iter()
                .filter(|(_, op)| op.starts_with("WriteEntries"));
            assert!(writes.count() <= 10, "{steps:?}");
            until_switched(&steps)
        });
        println!("from the first write to the switch: {changes:?} s");
        let fastest = changes.into_iter().fold(f64::MAX, f64::min);
        assert!(fastest < 0.005, "{changes:?} s");
        lab.pcn("destroy --yes rules").expect(0);
    });
}

/// Not a test: how long commands take with ten thousand rules.
#[test]
#[ignore = "measures; run alone on an idle machine"]
fn figures() {
    run_test(|lab| {
        let took = |what: &str, work: &dyn Fn()| {
            let start = Instant::now();
            work();
            println!("{what}: {:?}", start.elapsed());
        };
        let (none, text, changed) = (many(0, None), many(10_000, None), many(10_000, Some(777)));
        lab.apply(&none);
        took("validate 10,000 rules", &|| {
            lab.pcn_with("validate --file -", &text).expect(0);
        });
        took("apply 10,000 rules", &|| {
            lab.apply(&text);
        });
        took("plan without a change", &|| {
            lab.plan(&text);
        });
        took("change one of 10,000 rules", &|| {
            lab.apply(&changed);
        });
        lab.pcn("destroy --yes rules").expect(0);
    });
}
