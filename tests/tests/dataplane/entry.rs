//! `entry`: notes the port and jumps to the first program.

use ebpf_abi::{chain::CubeChain, entry::Entry};
use integration_tests::{
    cube::{Cube, Globals, Kind},
    packet::{ether, payload},
    private_net, require,
    test_run::{Gso, Hook, Verdict},
};

const SLOT: u32 = CubeChain::for_ports(0).inlet(5);

fn each_hook(check: fn(&Cube, &[u8])) {
    if !require::root() {
        return;
    }
    let entry = bytemuck::bytes_of(&Entry {
        slot: SLOT,
        port: 5,
    })
    .to_vec();
    let globals = Globals::from([("ENTRY".to_owned(), entry)]);
    private_net::run(|_| {
        let kind = Kind::parse("entry");
        let frame = (ether([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]) / payload(46)).bytes();
        for hook in Hook::ALL {
            check(&kind.load(hook, &globals, &Default::default()), &frame);
        }
    });
}

#[test]
fn sets_the_port_and_jumps() {
    each_hook(|cube, frame| {
        cube.put_passing_program(SLOT);
        // What others left in the control block does not matter: a port, and headers that moved.
        let run = cube.run_with_moved_headers(61, frame);
        assert_eq!(
            (run.verdict, run.port, run.moved),
            (Verdict::Pass, 5, 0),
            "{:?}",
            cube.hook
        );
        assert_eq!(run.packet, frame);
    });
}

#[test]
fn drops_when_there_is_no_program() {
    each_hook(|cube, frame| {
        cube.put_passing_program(SLOT + 1);
        assert_eq!(
            cube.run(61, frame, Gso::default()).verdict,
            Verdict::Drop,
            "{:?}",
            cube.hook
        );
    });
}
