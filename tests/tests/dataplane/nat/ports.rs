//! External ports: who gets which, and that nobody gets one that is in use.

use std::{collections::BTreeSet, sync::Barrier, thread};

use ebpf_abi::{
    counters::DropReason,
    nat::{MappingKey, PORT_WORDS, Ports, SIDE_OUTSIDE, TIDY_SLOTS, masquerade_pool, ports_index},
};
use integration_tests::{
    packet::{Packet, ipv4, payload, tcp, udp},
    table::{Row, row},
    test_run::{Gso, Verdict},
};

use super::*;

const UDP: u32 = 1;

fn out(source: Ipv4Addr, port: u16) -> Packet {
    frame() / ipv4(source, REMOTE) / udp(port, 53) / payload(30)
}

/// Ports that are taken, but for some.
fn all_but(free: &[u16]) -> Ports {
    let mut words = [u64::MAX; PORT_WORDS];
    for port in free {
        words[usize::from(port / 64)] &= !(1 << (port % 64));
    }
    Ports { words }
}

fn used_index() -> u32 {
    ports_index(masquerade_pool(1, 4), UDP)
}

fn rows() -> Vec<Row> {
    vec![
        // RFC 4787, REQ-3 and REQ-4
        row("another host with the same port gets one of the same range and as even")
            .out(&out(INSIDE, 4000), &out(EXTERNAL, 4000))
            .with(|cube| {
                let port = send(cube, OTHER, 4000).expect("there are ports");
                assert!(
                    port != 4000 && port >= 1024 && port.is_multiple_of(2),
                    "{port}"
                );
                let port = send(cube, OTHER, 4001).expect("there are ports");
                assert_eq!(port, 4001);
            }),
        row("well-known ports stay among themselves")
            .out(&out(INSIDE, 500), &out(EXTERNAL, 500))
            .with(|cube| {
                let port = send(cube, OTHER, 500).expect("there are ports");
                assert!(
                    port != 500 && (1..1024).contains(&port) && port.is_multiple_of(2),
                    "{port}"
                );
            }),
        row("the last one is found, and then there is none")
            .with(|cube| cube.write("used", used_index(), all_but(&[31337])))
            .out(&out(INSIDE, 4000), &out(EXTERNAL, 31337))
            .out_dropped(&out(OTHER, 4000), DropReason::PortsExhausted)
            // One that was odd is better than none.
            .then(|cube| assert_eq!(sessions(cube).len(), 1)),
        row("a port that is forwarded is nobody's")
            .with(|cube| {
                cube.write("used", used_index(), all_but(&[4000, 4002]));
                let mut reserved = Ports {
                    words: [0; PORT_WORDS],
                };
                reserved.words[4000 / 64] |= 1 << (4000 % 64);
                cube.write("reserved", used_index(), reserved);
            })
            .out(&out(INSIDE, 4000), &out(EXTERNAL, 4002))
            .out_dropped(&out(OTHER, 4000), DropReason::PortsExhausted),
        row("ports of sessions that have expired are found when there is none")
            .with(|cube| cube.write("used", used_index(), all_but(&[4000])))
            .out(&out(INSIDE, 4000), &out(EXTERNAL, 4000))
            .with(|cube| age(cube, 301 * SECOND))
            .out(&out(OTHER, 4000), &out(EXTERNAL, 4000)),
        row("a port of the same address in another pool is not given out").with(|cube| {
            let key = MappingKey {
                address: words(EXTERNAL),
                port: Be16::new(4000),
                protocol: 17,
                side: SIDE_OUTSIDE,
                pool: 0,
            };
            cube.write("mappings", key, Mapping::default());
            let port = send(cube, INSIDE, 4000).expect("there are ports");
            assert!(port != 4000 && port.is_multiple_of(2), "{port}");
        }),
        row("who got another port keeps it when the own one becomes free")
            .with(|cube| {
                let mut taken = Ports {
                    words: [0; PORT_WORDS],
                };
                taken.words[4000 / 64] |= 1 << (4000 % 64);
                cube.write("used", used_index(), taken);
                let port = send(cube, INSIDE, 4000).expect("there are ports");
                assert_ne!(port, 4000);
                taken.words[4000 / 64] = 0;
                taken.words[usize::from(port / 64)] |= 1 << (port % 64);
                cube.write("used", used_index(), taken);
                assert_eq!(send_to(cube, INSIDE, 4000, 54), Some(port));
                assert_eq!(used(cube, masquerade_pool(1, 4), UDP), 1);
                age(cube, 301 * SECOND);
                // So many look at all slots.
                for port in 10_000..10_000 + (SETTINGS.sessions / TIDY_SLOTS) as u16 {
                    assert_eq!(send(cube, OTHER, port), Some(port));
                }
            })
            // With its last session, nothing of it is left.
            .out(&out(INSIDE, 4000), &out(EXTERNAL, 4000)),
        row("TCP has ports of its own")
            .out(&out(INSIDE, 4000), &out(EXTERNAL, 4000))
            .out(
                &(frame() / ipv4(OTHER, REMOTE) / tcp(4000, 53).flags(SYN)),
                &(frame() / ipv4(EXTERNAL, REMOTE) / tcp(4000, 53).flags(SYN)),
            ),
    ]
}

/// The external port that a host's port gets; `None` if the packet was dropped.
fn send(cube: &Cube, source: Ipv4Addr, port: u16) -> Option<u16> {
    send_to(cube, source, port, 53)
}

/// The same of packets to another port.
fn send_to(cube: &Cube, source: Ipv4Addr, port: u16, to: u16) -> Option<u16> {
    let packet = frame() / ipv4(source, REMOTE) / udp(port, to) / payload(30);
    let run = cube.run(PORT, &packet.bytes(), Gso::default());
    (run.verdict == Verdict::Pass).then(|| u16::from_be_bytes([run.packet[34], run.packet[35]]))
}

/// A row with room for so many sessions, each with a mapping of its own.
fn with_room(name: &'static str, sessions: u32) -> Row {
    let settings = Settings {
        sessions,
        ..SETTINGS
    };
    row(name)
        .global("SETTINGS", settings)
        .capacity("sessions", sessions)
        .capacity("flows", 2 * sessions)
        .capacity("mappings", 2 * sessions)
}

/// Lets several threads do the same at a time, each with its number; what each has made.
fn at_a_time<T: Send>(threads: u16, work: impl Fn(u16) -> T + Sync) -> Vec<T> {
    let begun = Barrier::new(usize::from(threads));
    let (begun, work) = (&begun, &work);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|number| {
                scope.spawn(move || {
                    begun.wait();
                    work(number)
                })
            })
            .collect();
        let results = threads.into_iter().map(|thread| thread.join());
        results.map(|made| made.expect("it ends")).collect()
    })
}

/// Fills an address up to 90 and to 100 % and beyond, with all of its ports given out by the
/// data plane itself: no two sessions ever have the same one.
#[test]
fn no_port_is_given_out_twice() {
    const SESSIONS: u32 = 65536;
    const PORTS: usize = 65536 - 1024;
    let fill = with_room("fill", SESSIONS)
        .with(|cube| {
            let mut given = BTreeSet::new();
            for number in 0..PORTS + 100 {
                // All want the same one.
                let source = Ipv4Addr::from(0x0a01_0000 + number as u32);
                match send(cube, source, 4000) {
                    Some(port) => assert!(given.insert(port), "{port} twice, after {number}"),
                    None => assert!(number >= PORTS, "none left after {number}"),
                }
                if number == PORTS * 9 / 10 {
                    assert_eq!(used(cube, masquerade_pool(1, 4), UDP), number as u32 + 1);
                }
            }
            assert_eq!(given.len(), PORTS);
            assert_eq!(used(cube, masquerade_pool(1, 4), UDP), PORTS as u32);
        })
        .with(|cube| {
            // All of them expire: the table makes room, and ports come back.
            for slot in 0..SESSIONS {
                let mut session: Session = cube.read("sessions", slot).expect("in the array");
                session.seen = session.seen.saturating_sub(301 * SECOND);
                session.created = session.created.saturating_sub(301 * SECOND);
                cube.write("sessions", slot, session);
            }
            let mut given = BTreeSet::new();
            for number in 0..1000u32 {
                let source = Ipv4Addr::from(0x0a02_0000 + number);
                let port = send(cube, source, 4000).expect("ports came back");
                assert!(given.insert(port), "{port} twice");
            }
        });
    nat().rows([fill]).run();
}

/// The same by several CPUs at a time, all of which want the same port.
#[test]
fn no_port_is_given_out_twice_by_several_cpus() {
    const SESSIONS: u32 = 32768;
    const THREADS: u16 = 4;
    const EACH: u32 = 4000;
    let race = with_room("race", SESSIONS).with(|cube| {
        let given = at_a_time(THREADS, |thread| {
            let first = 0x0a01_0000 + (u32::from(thread) << 13);
            let sources = first..first + EACH;
            sources
                .filter_map(|source| send(cube, Ipv4Addr::from(source), 4000))
                .collect::<Vec<u16>>()
        });
        let given = given.concat();
        let all = u32::from(THREADS) * EACH;
        assert_eq!(given.len() as u32, all);
        let distinct: BTreeSet<u16> = given.iter().copied().collect();
        assert_eq!(distinct.len(), given.len(), "some twice");
        assert_eq!(used(cube, masquerade_pool(1, 4), UDP), all);
        assert_eq!(sessions(cube).len() as u32, all);
    });
    nat().rows([race]).run();
}

/// Several CPUs begin sessions of the same inside ports at a time, with half of the ports in use: each has one external
/// port only (RFC 4787, REQ-1). Who is too late is dropped, and sends again.
#[test]
fn an_inside_port_has_one_external_port() {
    const SESSIONS: u32 = 32768;
    const HOSTS: u32 = 2000;
    const TAKEN: u64 = 0x5555_5555_5555_5555;
    let race = with_room("race", SESSIONS).with(|cube| {
        let words = [TAKEN; PORT_WORDS];
        cube.write("used", used_index(), Ports { words });
        let given = at_a_time(4, |thread| {
            let ports = 5000..5000 + HOSTS as u16;
            let send = |port| send_to(cube, INSIDE, port, 100 + thread);
            ports.map(send).collect::<Vec<Option<u16>>>()
        });
        let mut all = BTreeSet::new();
        for host in 0..HOSTS as usize {
            let of_host: BTreeSet<u16> = given.iter().filter_map(|given| given[host]).collect();
            assert!(of_host.len() <= 1, "{host}: {of_host:?}");
            for port in of_host {
                assert!(all.insert(port), "{port} twice");
            }
        }
        assert!(all.len() as u32 > HOSTS / 2, "{} hosts have one", all.len());
        let before = PORT_WORDS as u32 * TAKEN.count_ones();
        let taken = used(cube, masquerade_pool(1, 4), UDP) - before;
        assert_eq!(taken, all.len() as u32);
    });
    nat().rows([race]).run();
}

/// A small table that is full: new sessions are refused until one has expired.
#[test]
fn a_full_table_makes_room() {
    const SESSIONS: u32 = 16;
    let settings = Settings {
        sessions: SESSIONS,
        ..SETTINGS
    };
    let full = row("full").global("SETTINGS", settings).with(|cube| {
        for number in 0..SESSIONS {
            let source = Ipv4Addr::from(0x0a01_0000 + number);
            assert_eq!(
                send(cube, source, 4000 + number as u16),
                Some(4000 + number as u16)
            );
        }
        assert_eq!(send(cube, OTHER, 9), None);
        assert_eq!(sessions(cube).len(), SESSIONS as usize);
    });
    let full = full
        .out_dropped(&out(OTHER, 9), DropReason::SessionsExhausted)
        .with(|cube| {
            let (slot, mut session) = sessions(cube)[5];
            session.seen -= 301 * SECOND;
            cube.write("sessions", slot, session);
            assert_eq!(send(cube, OTHER, 9), Some(9));
            assert_eq!(send(cube, OTHER, 10), None);
        });
    nat().rows([full]).run();
}

#[test]
fn packets() {
    nat().rows(rows()).run();
}
