//! What is not ours stays as it is.

use std::os::fd::{AsFd, OwnedFd};

use integration_tests::{
    command::run,
    lab::{Footprint, Lab, Station, run_test},
    traffic::ping,
};
use reconciler::kernel::linux::bpf::{self, LinkTarget, MapAttributes, MapType, ProgramRequest};

use crate::{BASE, ip};

const TCX_INGRESS: u32 = 46;
/// `BPF_F_BEFORE`: before all others.
const BEFORE: u32 = 1 << 3;
pub(crate) const XDP: u32 = 37;

pub(crate) const WIRE: &str = "
apiVersion: pcn.dev/v1alpha1
kind: Topology
metadata: { name: wires }
spec:
  namespaces:
    h: { interfaces: { eth0: { addresses: [10.0.0.1/24, 'fd00::1/64'] } } }
  interfaces: { wire0: { hook: tc } }
  cubes: { br: { bridge: {} } }
  links: [[br:h, h/eth0], [br:w, wire0]]
";

/// Somebody else's program on an interface: it counts, and lets everything pass.
pub(crate) struct Foreigner {
    counter: OwnedFd,
    _link: OwnedFd,
}

impl Foreigner {
    pub(crate) fn attach(interface: &str, attach_type: u32) -> Self {
        Self::attach_with(interface, attach_type, 0)
    }

    fn attach_with(interface: &str, attach_type: u32, flags: u32) -> Self {
        let counter = bpf::create_map(
            "foreigner",
            MapAttributes {
                map_type: MapType::Array as u32,
                key_size: 4,
                value_size: 8,
                max_entries: 1,
                flags: 0,
            },
        )
        .expect("root can make a map");
        // BPF_PROG_TYPE_SCHED_CLS with TCX_NEXT, BPF_PROG_TYPE_XDP with XDP_PASS.
        let (program_type, verdict) = if attach_type == XDP { (6, 2) } else { (3, -1) };
        let program = bpf::load_program(&ProgramRequest {
            name: "foreigner",
            program_type,
            attach_type: if attach_type == XDP { XDP } else { 0 },
            instructions: &counting(std::os::fd::AsRawFd::as_raw_fd(&counter), verdict),
            license: b"GPL\0",
            btf: None,
        })
        .expect("a small program");
        let ifindex = nix::net::if_::if_nametoindex(interface).expect("the interface is there");
        let target = LinkTarget {
            ifindex,
            attach_type,
            flags,
        };
        let link = bpf::create_link(program.as_fd(), target).expect("nobody else is there");
        Self {
            counter,
            _link: link,
        }
    }

    fn packets(&self) -> u64 {
        let value = bpf::lookup(self.counter.as_fd(), &0u32.to_ne_bytes(), 8)
            .expect("root can look")
            .expect("an array");
        u64::from_ne_bytes(value.try_into().expect("eight bytes"))
    }
}

/// `counter[0] += 1; return verdict`
fn counting(map: i32, verdict: i32) -> Vec<u8> {
    let instruction = |code: u8, registers: u8, offset: i16, immediate: i32| {
        let mut bytes = vec![code, registers];
        bytes.extend(offset.to_le_bytes());
        bytes.extend(immediate.to_le_bytes());
        bytes
    };
    [
        instruction(0x62, 0x0a, -4, 0),      // *(u32 *)(r10 - 4) = 0
        instruction(0xbf, 0xa2, 0, 0),       // r2 = r10
        instruction(0x07, 0x02, 0, -4),      // r2 += -4
        instruction(0x18, 0x11, 0, map),     // r1 = map
        instruction(0x00, 0x00, 0, 0),       //
        instruction(0x85, 0x00, 0, 1),       // r0 = bpf_map_lookup_elem(r1, r2)
        instruction(0x15, 0x00, 2, 0),       // if r0 == 0 goto +2
        instruction(0xb7, 0x01, 0, 1),       // r1 = 1
        instruction(0xdb, 0x10, 0, 0),       // lock *(u64 *)(r0 + 0) += r1
        instruction(0xb7, 0x00, 0, verdict), // r0 = verdict
        instruction(0x95, 0x00, 0, 0),       // exit
    ]
    .concat()
}

#[test]
fn a_namespace_of_that_name() {
    run_test(|lab| {
        run("ip netns add h2").expect(0);
        run("ip -netns h2 link add mine type veth peer name yours").expect(0);
        let before = Footprint::take();
        let path = lab.file("base.yaml", BASE);
        let refused = lab.pcn(&format!("apply --yes -f {path}")).expect(1);
        assert!(refused.stderr.contains("namespace/h2"), "{refused}");
        lab.pcn(&format!("plan -f {path}")).expect(1);
        before.assert_same(&Footprint::take());
        assert!(lab.ids().is_empty());
        run("ip -netns h2 link show mine").expect(0);
        lab.pcn("destroy --yes live").expect(0);
        run("ip -netns h2 link show mine").expect(0);
        run("ip netns delete h2").expect(0);
        lab.apply(BASE);
    });
}

#[test]
fn a_program_on_the_same_interface() {
    run_test(|lab| {
        let station = Station::new("s", "wire0", &["10.0.0.2/24", "fd00::2/64"]);
        let foreigner = Foreigner::attach("wire0", TCX_INGRESS);
        let sees = |lab: &Lab| {
            let before = foreigner.packets();
            assert_eq!(ping(&station, ip("10.0.0.1")), 64);
            assert_eq!(ping(&lab.space("h"), ip("fd00::2")), 64);
            assert!(
                foreigner.packets() >= before + 2,
                "{before}, then {}",
                foreigner.packets()
            );
        };
        lab.apply(WIRE);
        lab.assert_converged(WIRE);
        sees(lab);
        lab.apply(&WIRE.replace("bridge: {}", "bridge: { agingTime: 20s }"));
        sees(lab);
        lab.pcn("destroy --yes wires").expect(0);
        let before = foreigner.packets();
        station.run("ping -c 1 -W 0.2 10.0.0.1");
        assert!(
            foreigner.packets() > before,
            "the program of somebody else is gone"
        );
    });
}

#[test]
fn a_program_that_has_the_hook() {
    run_test(|lab| {
        let station = Station::for_xdp("s", "wire0", &["10.0.0.2/24"]);
        let foreigner = Foreigner::attach("wire0", XDP);
        let before = Footprint::take();
        let path = lab.file("wires.yaml", &WIRE.replace("hook: tc", "hook: xdp"));
        let refused = lab.pcn(&format!("apply --yes -f {path}"));
        assert!(matches!(refused.code, Some(1 | 4)), "{refused}");
        assert!(refused.stderr.contains("wire0"), "{refused}");
        // What was made before the refusal is gone again.
        before.assert_same(&Footprint::take());
        assert!(lab.ids().is_empty(), "{:?}", lab.ids());
        let packets = foreigner.packets();
        station.run("ping -c 1 -W 0.2 10.0.0.1");
        assert!(
            foreigner.packets() > packets,
            "the program of somebody else is gone"
        );
    });
}

#[test]
fn a_failed_change_leaves_what_ran() {
    run_test(|lab| {
        let station = Station::for_xdp("s", "wire0", &["10.0.0.2/24", "fd00::2/64"]);
        let other = Station::for_xdp("t", "wire1", &["10.0.0.3/24", "fd00::3/64"]);
        lab.apply(WIRE);
        assert_eq!(ping(&station, ip("fd00::1")), 64);
        let (before, ids) = (Footprint::take(), lab.ids());
        let foreigner = Foreigner::attach("wire1", XDP);
        let more = WIRE.replace(
            "wire0: { hook: tc }",
            "wire0: { hook: tc }, wire1: { hook: xdp }",
        );
        let more = more
            .replace("[br:w, wire0]", "[br:w, wire0], [br:x, wire1]")
            .replace("bridge: {}", "bridge: { agingTime: 20s }");
        let failed = lab.pcn(&format!("apply --yes -f {}", lab.file("more.yaml", &more)));
        assert!(matches!(failed.code, Some(1 | 4)), "{failed}");
        drop(foreigner);
        before.assert_same(&Footprint::take());
        assert_eq!(
            lab.ids().keys().collect::<Vec<_>>(),
            ids.keys().collect::<Vec<_>>()
        );
        lab.assert_converged(WIRE);
        assert_eq!(ping(&station, ip("10.0.0.1")), 64);
        // Without the obstacle it works.
        lab.apply(&more);
        lab.assert_converged(&more);
        assert_eq!(ping(&other, ip("fd00::2")), 64);
        lab.pcn("destroy --yes wires").expect(0);
    });
}

#[test]
fn a_program_before_ours_is_named() {
    run_test(|lab| {
        run("ip link add wire0 type veth peer name wire1").expect(0);
        run("ip link set wire0 up").expect(0);
        lab.apply(WIRE);
        let _after = Foreigner::attach("wire0", TCX_INGRESS);
        lab.pcn("doctor").expect(0);
        let before = Foreigner::attach_with("wire0", TCX_INGRESS, BEFORE);
        let doctor = lab.pcn("doctor").expect(1);
        let said = "interfaces/wire0/link-tc-ingress: program";
        assert!(doctor.stdout.contains(said), "{doctor}");
        drop(before);
        lab.pcn("doctor").expect(0);
        lab.pcn("destroy --yes wires").expect(0);
        run("ip link delete wire0").expect(0);
    });
}
