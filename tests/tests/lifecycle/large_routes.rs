//! Many static routes: from the kernel's trie to tables in shared memory and back, one by one, and
//! after somebody else wrote into the memory.

use std::{fmt::Write as _, os::fd::AsFd as _};

use integration_tests::{
    lab::{Lab, run_test},
    traffic::{no_ping, ping},
};
use reconciler::kernel::linux::{bpf, mapping::Memory};

use crate::{addresses, differences, ids, ip};

/// A router between two hosts, with this many routes of each family to the second one.
fn topology(count: u32) -> String {
    let mut text = "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: many }
spec:
  namespaces:
    a:
      interfaces:
        eth0:
          addresses: [10.1.0.2/24, 'fd00:1::2/64']
          routes: [{ to: default, via: 10.1.0.1 }, { to: default, via: 'fd00:1::1' }]
    b:
      interfaces:
        eth0:
          addresses: [10.2.0.2/24, 'fd00:2::2/64']
          routes: [{ to: default, via: 10.2.0.1 }, { to: default, via: 'fd00:2::1' }]
  links: [[r:a, a/eth0], [r:b, b/eth0]]
  cubes:
    r:
      router:
        ports:
          a: { addresses: [10.1.0.1/24, 'fd00:1::1/64'] }
          b: { addresses: [10.2.0.1/24, 'fd00:2::1/64'] }
        routes:
"
    .to_owned();
    for number in 0..count {
        let (high, low) = (number >> 8, number & 255);
        let v4 = format!("{{ to: 20.{high}.{low}.0/24, via: 10.2.0.2 }}");
        let v6 = format!("{{ to: '2001:db8:{number:x}::/48', via: 'fd00:2::2' }}");
        writeln!(text, "          - {v4}\n          - {v6}").expect("text grows");
    }
    text
}

fn prepare(lab: &Lab) {
    let b = lab.space("b");
    b.run("ip link set lo up").expect(0);
    for address in ["20.0.5.1/32", "2001:db8:5::1/128", "20.1.4.1/32"] {
        b.run(&format!("ip address add {address} dev lo")).expect(0);
    }
}

#[track_caller]
fn works(lab: &Lab) {
    let a = lab.space("a");
    for address in ["20.0.5.1", "2001:db8:5::1", "10.2.0.2", "fd00:2::2"] {
        assert_eq!(ping(&a, ip(address)), 63, "{address}");
    }
    no_ping(&a, ip("21.0.0.1"));
}

#[test]
fn routes_become_many_and_few_again() {
    run_test(|lab| {
        lab.apply(&topology(40));
        prepare(lab);
        works(lab);
        let a = lab.space("a");
        // Some eight thousand packets, before, during and after.
        let pings = a.start("ping -n -q -i 0.001 -W 5 -c 8000 20.0.5.1");
        for count in [1100, 1101, 300, 40] {
            let text = topology(count);
            lab.apply(&text);
            lab.assert_converged(&text);
            works(lab);
        }
        let run = pings.end();
        assert!(run.stdout.contains(" 8000 received"), "{run}");
        lab.pcn("destroy --yes many").expect(0);
        assert!(lab.ids().is_empty());
    });
}

#[test]
fn one_of_many_routes_changes_by_itself() {
    run_test(|lab| {
        let text = topology(1100);
        lab.apply(&text);
        prepare(lab);
        works(lab);
        let before = ids(lab);
        let fewer = text.replace("          - { to: 20.0.5.0/24, via: 10.2.0.2 }\n", "");
        let plan = lab.plan_json(&fewer);
        assert_eq!(addresses(&plan["changes"]), ["cube/r/routes/20.0.5.0/24"]);
        lab.apply(&fewer);
        lab.assert_converged(&fewer);
        no_ping(&lab.space("a"), ip("20.0.5.1"));
        lab.apply(&text);
        lab.assert_converged(&text);
        works(lab);
        assert_eq!(differences(&before, &ids(lab)), [""; 0]);
        let shown = lab.show("many")["cubes"]["r"]["routes"].clone();
        let listed = shown.as_array().expect("a list").iter();
        let fixed = listed.filter(|route| route["type"] == "static").count();
        assert_eq!(fixed, 2200);
        lab.pcn("destroy --yes many").expect(0);
    });
}

#[test]
fn memory_that_others_wrote_is_made_anew() {
    run_test(|lab| {
        let text = topology(1100);
        lab.apply(&text);
        prepare(lab);
        for table in ["fib_v4", "fib_v6"] {
            let map = bpf::open(&lab.pin(&format!("many/cubes/r/{table}"))).expect("it is there");
            let info: bpf::MapInfo = bpf::info(map.as_fd()).expect("root can look");
            let bytes = info.value_size as usize * info.max_entries as usize;
            let memory = Memory::new(&map, bytes).expect("it can be mapped");
            let words = memory.as_ref();
            let used = |word: &std::sync::atomic::AtomicU64| {
                word.load(std::sync::atomic::Ordering::Relaxed) != 0
            };
            // Behind the header of either table.
            let at = (256..words.len())
                .find(|at| used(&words[*at]))
                .expect("a route");
            words[at].fetch_xor(0x00ff_0000, std::sync::atomic::Ordering::Relaxed);
            let plan = lab.plan_json(&text);
            assert_eq!(addresses(&plan["drift"]), ["cube/r"], "{table}: {plan}");
            lab.apply(&text);
            lab.assert_converged(&text);
            works(lab);
        }
        lab.pcn("destroy --yes many").expect(0);
    });
}
