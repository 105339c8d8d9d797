//! Every kind of drift: the plan names it and nothing else, apply repairs it and touches nothing
//! else, and traffic works again.

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd},
};

use ebpf_abi::router::{Route, RouterPort};
use integration_tests::{
    command::run,
    lab::{Lab, run_test},
    wait,
};
use reconciler::kernel::linux::bpf::{self, ProgramRequest};

use crate::{BASE, addresses, assert_base_works, differences, ids};

/// One thing that others do.
struct Case {
    what: &'static str,
    happen: fn(&Lab),
    /// The addresses of the drift, all of them.
    drift: &'static [&'static str],
    /// A part of what the plan says.
    text: &'static str,
    /// Pins whose objects are other ones after the repair, by their beginnings.
    other: &'static [&'static str],
}

fn with_map<T>(lab: &Lab, path: &str, work: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
    let map = bpf::open(&lab.pin(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    work(map.as_fd())
}

/// The first key that ends so.
fn key(map: BorrowedFd<'_>, size: usize, end: &[u8]) -> Vec<u8> {
    let mut key = None;
    loop {
        key = bpf::next_key(map, key.as_deref(), size).expect("a map can be walked");
        let found = key.clone().expect("the key is there");
        if found.ends_with(end) {
            return found;
        }
    }
}

/// Every byte of a value becomes another one.
fn spoil(map: BorrowedFd<'_>, key: &[u8], size: usize) {
    let value = bpf::lookup(map, key, size).expect("root can look");
    let other: Vec<u8> = value
        .expect("it is there")
        .iter()
        .map(|byte| !byte)
        .collect();
    bpf::update(map, key, &other).expect("root can write");
}

/// A program of somebody else that lets everything pass.
fn foreign_program() -> std::os::fd::OwnedFd {
    // r0 = TCX_NEXT; exit
    let instructions = [
        0xb7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x95, 0, 0, 0, 0, 0, 0, 0,
    ];
    bpf::load_program(&ProgramRequest {
        name: "foreigner",
        program_type: 3,
        attach_type: 0,
        instructions: &instructions,
        license: b"GPL\0",
        btf: None,
    })
    .expect("a small program")
}

/// The pin of the link of a namespace's interface, and the name of its near end.
fn near(what: &str) -> String {
    let links = run("ip -j link show type veth").expect(0).json();
    let alias = format!("pcn:live:{what}");
    let found = links
        .as_array()
        .into_iter()
        .flatten()
        .find(|link| link["ifalias"] == alias.as_str());
    let name = found.and_then(|link| link["ifname"].as_str());
    name.unwrap_or_else(|| panic!("no pair {what}: {links}"))
        .to_owned()
}

fn link_of(what: &str) -> String {
    format!("live/interfaces/{}/link-tc-ingress", near(what))
}

fn portal() -> String {
    ["br:h1", "br:up", "br:h2"]
        .into_iter()
        .find(|port| {
            run("ip -d link show")
                .expect(0)
                .stdout
                .contains(&format!("pcn:live:{port}"))
        })
        .map(near)
        .expect("a port that a stack serves has a portal")
}

fn set_slot(lab: &Lab) {
    use std::os::fd::AsRawFd;
    with_map(lab, "live/cubes/r/chain_tc", |map| {
        let filled = (0u32..).find(|slot| {
            bpf::lookup(map, &slot.to_ne_bytes(), 4).is_ok_and(|program| program.is_some())
        });
        let program = foreign_program();
        bpf::update(
            map,
            &filled.expect("a slot in use").to_ne_bytes(),
            &program.as_raw_fd().to_ne_bytes(),
        )
        .expect("root can write");
    });
}

fn unpin(lab: &Lab, path: &str) {
    fs::remove_file(lab.pin(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
}

fn run_all(cases: &[Case]) {
    run_test(|lab| {
        lab.apply(BASE);
        assert_base_works(lab);
        for case in cases {
            let Case {
                what,
                happen,
                drift,
                text,
                other,
            } = case;
            let before = ids(lab);
            happen(lab);
            let plan = wait::within(wait::PATIENCE, || {
                // The kernel takes its time to take interfaces away.
                let plan = lab.plan_json(BASE);
                (addresses(&plan["drift"]) == *drift).then_some(plan)
            });
            let plan = plan.unwrap_or_else(|| panic!("{what}: {}", lab.plan_json(BASE)));
            assert_eq!(plan["changes"], serde_json::json!([]), "{what}: {plan}");
            let shown = lab.plan(BASE).expect(2);
            assert!(shown.stdout.contains(text), "{what}: {shown}");
            let diff = lab
                .pcn(&format!("diff -f {}", lab.file("base.yaml", BASE)))
                .expect(2);
            assert!(
                drift.iter().all(|address| diff.stdout.contains(address)),
                "{what}: {diff}"
            );
            lab.apply(BASE);
            lab.assert_converged(BASE);
            assert_base_works(lab);
            let touched = differences(&before, &ids(lab));
            let strange: Vec<_> = touched
                .iter()
                .filter(|path| !other.iter().any(|other| path.starts_with(other)))
                .collect();
            assert!(
                strange.is_empty(),
                "{what}: others were touched: {strange:?}"
            );
        }
    });
}

#[test]
fn entries() {
    run_all(&[
        Case {
            what: "a route was changed",
            happen: |lab| {
                with_map(lab, "live/cubes/r/routes_v4", |map| {
                    spoil(map, &key(map, 8, &[10, 9, 0, 0]), 4)
                });
            },
            drift: &["cube/r/routes/10.9.0.0/16"],
            text: "was changed in the kernel (table routes_v4)",
            other: &[],
        },
        Case {
            what: "a next hop was changed",
            happen: |lab| {
                with_map(lab, "live/cubes/r/next_hops", |map| {
                    spoil(map, &1u32.to_ne_bytes(), size_of::<Route>())
                });
            },
            drift: &["cube/r"],
            text: "was changed in the kernel (table next_hops)",
            other: &[],
        },
        Case {
            what: "a neighbour is missing",
            happen: |lab| {
                with_map(lab, "live/cubes/r/static_neighbors", |map| {
                    let mut at = None;
                    loop {
                        at = bpf::next_key(map, at.as_deref(), 20).expect("a map can be walked");
                        let key = at.as_deref().expect("the neighbour is there");
                        if key[4..8] == [10, 2, 0, 77] {
                            return bpf::delete(map, key).expect("root can delete");
                        }
                    }
                });
            },
            drift: &["cube/r/neighbors/10.2.0.77"],
            text: "02:00:00:00:00:77",
            other: &[],
        },
        Case {
            what: "a station was moved",
            happen: |lab| {
                with_map(lab, "live/cubes/br/static_fdb", |map| {
                    let key = bpf::next_key(map, None, 8)
                        .expect("a map can be walked")
                        .expect("one station");
                    bpf::update(map, &key, &7u32.to_ne_bytes()).expect("root can write");
                });
            },
            drift: &["cube/br/fdb/02:00:00:00:00:99"],
            text: "\"port 7\" -> \"port",
            other: &[],
        },
        Case {
            what: "a port leads nowhere",
            happen: |lab| {
                with_map(lab, "live/cubes/br/ports", |map| {
                    bpf::update(map, &0u32.to_ne_bytes(), &[0; 24]).expect("root can write");
                });
            },
            drift: &["cube/br/ports/h1"],
            text: "was changed in the kernel (table ports)",
            other: &[],
        },
        Case {
            what: "a router's port was changed",
            happen: |lab| {
                with_map(lab, "live/cubes/r/router_ports", |map| {
                    spoil(map, &0u32.to_ne_bytes(), size_of::<RouterPort>())
                })
            },
            drift: &["cube/r/ports/lan"],
            text: "table router_ports",
            other: &[],
        },
        Case {
            what: "a port was taken out of the flooding",
            happen: |lab| {
                with_map(lab, "live/cubes/br/flood", |map| {
                    spoil(map, &1u32.to_ne_bytes(), 4)
                })
            },
            drift: &["cube/br"],
            text: "flood[0x01000000]",
            other: &[],
        },
    ]);
}

#[test]
fn programs_and_attachments() {
    run_all(&[
        Case {
            what: "a slot leads to a program of somebody else",
            happen: set_slot,
            drift: &["link/br:up--r:lan"],
            text: "leads to another program",
            other: &[],
        },
        Case {
            what: "a link was detached",
            happen: |lab| {
                let link = bpf::open(&lab.pin(&link_of("h1/eth0"))).expect("a pin");
                bpf::detach_link(link.as_fd()).expect("root can detach");
            },
            drift: &["namespace/h1"],
            text: "its link was detached",
            other: &["live/interfaces/"],
        },
        Case {
            what: "a link runs a program of somebody else",
            happen: |lab| {
                let link = bpf::open(&lab.pin(&link_of("h2/eth0"))).expect("a pin");
                bpf::update_link(link.as_fd(), foreign_program().as_fd(), None).expect("root can");
            },
            drift: &["namespace/h2"],
            text: "another program is attached",
            other: &[],
        },
        Case {
            what: "the pin of a link was removed",
            happen: |lab| unpin(lab, &link_of("h3/eth0")),
            drift: &["namespace/h3"],
            text: "its link is gone",
            other: &["live/interfaces/"],
        },
        Case {
            what: "the pin of a cube's program was removed",
            happen: |lab| unpin(lab, "live/cubes/br/program-tc"),
            drift: &["cube/br"],
            text: "its program cubes/br/program-tc is gone",
            other: &["live/cubes/br/program-tc"],
        },
        Case {
            what: "the pin of a table was removed",
            happen: |lab| unpin(lab, "live/cubes/r/routes_v4"),
            drift: &["cube/r"],
            text: "its table routes_v4 is not pinned any more",
            other: &[],
        },
        Case {
            what: "the pin of a learned table was removed",
            happen: |lab| unpin(lab, "live/cubes/br/fdb"),
            drift: &["cube/br"],
            text: "its table fdb is not pinned any more",
            other: &[],
        },
        Case {
            what: "the pin of a chain was removed",
            happen: |lab| unpin(lab, "live/cubes/r/chain_tc"),
            drift: &["cube/r"],
            text: "its table chain_tc is gone",
            // What jumps through the chain is loaded anew.
            other: &[
                "live/cubes/r/chain_tc",
                "live/cubes/r/program-tc",
                "live/interfaces/",
            ],
        },
        Case {
            what: "the record was removed",
            happen: |lab| unpin(lab, "live/record"),
            drift: &["topology"],
            text: "there is no record of what was applied",
            other: &[],
        },
        Case {
            what: "somebody pinned something among ours",
            happen: |lab| {
                let counters = bpf::open(&lab.pin("live/cubes/br/counters")).expect("a pin");
                let directory = fs::File::open(lab.pin("live/cubes/br")).expect("it is there");
                let path = lab.pin("live/cubes/br/stranger");
                bpf::pin_at(counters.as_fd(), directory.as_fd(), "stranger", &path)
                    .expect("root can");
            },
            drift: &["cube/br"],
            text: "cubes/br/stranger was pinned by others",
            other: &["live/cubes/br/stranger"],
        },
    ]);
}

#[test]
fn interfaces_and_namespaces() {
    run_all(&[
        Case {
            what: "a pair was deleted",
            happen: |_| drop(run(&format!("ip link delete {}", near("h1/eth0"))).expect(0)),
            drift: &["namespace/h1"],
            text: "its interface eth0 is gone",
            other: &["live/interfaces/", "live/stacks/"],
        },
        Case {
            what: "a portal was deleted",
            happen: |_| drop(run(&format!("ip link delete {}", portal())).expect(0)),
            drift: &["cube/br"],
            text: "is gone",
            other: &["live/interfaces/"],
        },
        Case {
            what: "a namespace was deleted",
            happen: |_| drop(run("ip netns delete h2").expect(0)),
            drift: &["namespace/h2"],
            text: "the namespace is gone",
            other: &["live/interfaces/", "live/stacks/"],
        },
        Case {
            what: "the name of a namespace was unmounted",
            happen: |_| drop(run("umount /run/netns/h3").expect(0)),
            drift: &["namespace/h3"],
            text: "the namespace is gone",
            other: &["live/interfaces/", "live/stacks/"],
        },
        Case {
            what: "the mark of a pair was removed",
            happen: |_| {
                let near = near("h1/eth0");
                fs::write(format!("/sys/class/net/{near}/ifalias"), "\n").expect("root can write");
            },
            drift: &["namespace/h1"],
            text: "the mark of its interface eth0 was removed",
            other: &[],
        },
        Case {
            what: "the mark of a pair was changed",
            happen: |_| drop(run(&format!("ip link set {} alias mine", near("h2/eth0"))).expect(0)),
            drift: &["namespace/h2"],
            text: "mine",
            other: &[],
        },
        Case {
            what: "the MTU of a near end was changed",
            happen: |_| drop(run(&format!("ip link set {} mtu 1280", near("h3/eth0"))).expect(0)),
            drift: &["namespace/h3"],
            text: "{\"mtu\":1280} -> {\"mtu\":1500}",
            other: &[],
        },
        Case {
            what: "a route went and an address came",
            happen: |lab| {
                let h1 = lab.space("h1");
                h1.run("ip route del default").expect(0);
                h1.run("ip address add 10.1.0.9/24 dev eth0").expect(0);
            },
            drift: &["namespace/h1"],
            text: "addresses, routes",
            other: &[],
        },
    ]);
}

/// Nothing is left in bpffs; interfaces and namespaces are, and are taken back.
#[test]
fn everything_pinned_is_gone() {
    let removals: [fn(&Lab); 2] = [
        |lab| fs::remove_dir_all(lab.pin("live")).expect("root can remove"),
        |_| drop(run("umount /sys/fs/bpf").expect(0)),
    ];
    for removal in removals {
        run_test(|lab| {
            lab.apply(BASE);
            assert_base_works(lab);
            lab.note_objects();
            let interfaces = |lab: &Lab| {
                let inside = lab.space("h1").run("ip -o link show eth0").expect(0).stdout;
                (near("h1/eth0"), inside)
            };
            let before = interfaces(lab);
            removal(lab);
            let plan = lab.plan_json(BASE);
            let drift = addresses(&plan["drift"]);
            for address in ["topology", "cube/br", "cube/r", "namespace/h1"] {
                assert!(drift.contains(&address), "{address}: {plan}");
            }
            assert_eq!(plan["changes"], serde_json::json!([]), "{plan}");
            lab.plan(BASE).expect(2);
            lab.apply(BASE);
            lab.assert_converged(BASE);
            assert_base_works(lab);
            assert_eq!(interfaces(lab), before, "the namespaces are the same ones");
        });
    }
}

/// Where the file says so, drift stays: it is shown or not, and what the file changes still comes.
#[test]
fn drift_that_stays() {
    run_test(|lab| {
        let warn = crate::edit(BASE, "    r:\n", "    r:\n      drift: warn\n");
        lab.apply(&warn);
        let damage = |lab: &Lab| {
            with_map(lab, "live/cubes/r/routes_v4", |map| {
                bpf::delete(map, &key(map, 8, &[10, 9, 0, 0])).expect("root can delete");
            });
        };
        damage(lab);
        let plan = lab.plan_json(&warn);
        assert_eq!(
            addresses(&plan["drift"]),
            ["cube/r/routes/10.9.0.0/16"],
            "{plan}"
        );
        assert_eq!(plan["drift"][0]["mode"], "warn", "{plan}");
        assert_eq!(plan["summary"]["create"], 0, "{plan}");
        let shown = lab.plan(&warn).expect(2);
        assert!(
            shown.stdout.starts_with("No changes.\n") && shown.stdout.contains("not repaired"),
            "{shown}"
        );
        let before = lab.ids();
        lab.apply(&warn);
        assert_eq!(lab.ids(), before);
        assert_eq!(addresses(&lab.plan_json(&warn)["drift"]).len(), 1);
        // Drift of something else is repaired, this is not.
        lab.space("h1").run("ip link set eth0 mtu 1400").expect(0);
        lab.apply(&warn);
        assert_eq!(
            addresses(&lab.plan_json(&warn)["drift"]),
            ["cube/r/routes/10.9.0.0/16"]
        );
        assert_base_works(lab);
        // What the file changes comes, and the whole object with it.
        let more = crate::edit(
            &warn,
            "{ to: 10.9.0.0/16, via: 10.2.0.1 }",
            "{ to: 10.9.0.0/16, via: 10.2.0.2 }",
        );
        lab.apply(&more);
        lab.assert_converged(&more);
        let ignore = crate::edit(&more, "drift: warn", "drift: ignore");
        lab.apply(&ignore);
        damage(lab);
        lab.assert_converged(&ignore);
        // Told to repair again, it is there.
        lab.apply(BASE);
        lab.assert_converged(BASE);
        assert_base_works(lab);
    });
}
