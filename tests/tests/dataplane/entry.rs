//! `entry`: notes the port and the bank, and jumps to the first program.

use ebpf_abi::{
    chain::CubeChain,
    entry::{BANK_MARK, ENTRY_INHERITS, ENTRY_NOTED, ENTRY_RETURNS, Entry},
};
use integration_tests::{
    cube::{Cube, Globals, Kind},
    packet::{ether, payload},
    private_net, require,
    test_run::{Gso, Hook, Verdict},
};

/// Where packets of each bank go: slot and port.
const LEADS_TO: [(u32, u32); 2] = [
    (CubeChain::for_ports(0).inlet(5), 5),
    (CubeChain::for_ports(0).inlet(9), 9),
];

fn each_hook(flags: u32, check: fn(&mut Cube, &[u8])) {
    if !require::root() {
        return;
    }
    let entries = LEADS_TO.map(|(slot, port)| Entry { slot, port, flags });
    let entries = bytemuck::bytes_of(&entries).to_vec();
    let globals = Globals::from([("ENTRY".to_owned(), entries)]);
    private_net::run(|_| {
        let kind = Kind::parse("entry");
        let frame = (ether([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]) / payload(46)).bytes();
        for hook in Hook::ALL {
            check(&mut kind.load(hook, &globals, &Default::default()), &frame);
        }
    });
}

/// The chain of a bank.
fn chain(cube: &Cube) -> String {
    let second = ["", "_1"][cube.bank as usize];
    format!("{}{second}", cube.hook.chain())
}

#[test]
fn sets_the_port_and_jumps_in_the_active_bank() {
    each_hook(0, |cube, frame| {
        for (bank, (slot, port)) in LEADS_TO.into_iter().enumerate() {
            cube.bank = bank as u32;
            cube.write("active", 0u32, cube.bank);
            cube.put_passing_program_into(&chain(cube), slot);
            // What others left in the control block does not matter: a port, headers that
            // moved, and the other bank.
            let run = cube.run_from([61, 1, BANK_MARK | (1 - cube.bank)], frame, Gso::default());
            assert_eq!(
                (run.verdict, run.port, run.moved),
                (Verdict::Pass, port, 0),
                "{:?} {bank}",
                cube.hook
            );
            assert_eq!(run.packet, frame);
        }
    });
}

#[test]
fn a_copy_stays_in_its_bank() {
    each_hook(1, |cube, frame| {
        // XDP frames are never copied.
        if cube.hook == Hook::Xdp {
            return;
        }
        cube.bank = 1;
        cube.write("active", 0u32, 0u32);
        cube.put_passing_program_into(&chain(cube), LEADS_TO[1].0);
        let copy = cube.run_from([61, 0, BANK_MARK | 1], frame, Gso::default());
        assert_eq!((copy.verdict, copy.port), (Verdict::Pass, LEADS_TO[1].1));
        let unmarked = cube.run_from([61, 0, 1], frame, Gso::default());
        assert_eq!(unmarked.verdict, Verdict::Drop);
    });
}

/// Every sort of entry is loaded, and leads somewhere.
#[test]
fn what_is_given_back_is_marked() {
    each_hook(ENTRY_RETURNS, |cube, frame| {
        cube.bank = 0;
        cube.write("active", 0u32, 0u32);
        cube.put_passing_program_into(&chain(cube), LEADS_TO[0].0);
        let run = cube.run(61, frame, Gso::default());
        assert_eq!((run.verdict, run.port), (Verdict::Pass, LEADS_TO[0].1));
    });
}

/// A copy says itself where it goes; what is no copy of ours goes nowhere.
#[test]
fn a_copy_goes_where_it_says() {
    each_hook(ENTRY_INHERITS | ENTRY_NOTED, |cube, frame| {
        if cube.hook == Hook::Xdp {
            return;
        }
        cube.bank = 1;
        let other = CubeChain::for_ports(0).out(0);
        cube.put_passing_program_into(&chain(cube), other);
        let copy = cube.run_from([61, 0, BANK_MARK | 1], frame, Gso::default());
        assert_eq!((copy.verdict, copy.port), (Verdict::Pass, 61));
        let stranger = cube.run_from([61, 0, 1], frame, Gso::default());
        assert_eq!(stranger.verdict, Verdict::Drop);
    });
}

#[test]
fn drops_when_there_is_no_program() {
    each_hook(0, |cube, frame| {
        for (bank, (slot, _)) in LEADS_TO.into_iter().enumerate() {
            cube.bank = bank as u32;
            cube.write("active", 0u32, 1 - cube.bank);
            cube.put_passing_program_into(&chain(cube), slot);
            assert_eq!(
                cube.run(61, frame, Gso::default()).verdict,
                Verdict::Drop,
                "{:?}",
                cube.hook
            );
            cube.delete(&chain(cube), ebpf_abi::chain::in_bank(slot, cube.bank));
        }
    });
}
