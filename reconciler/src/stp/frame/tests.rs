//! Every byte of the messages, and what is none.

use super::*;
use crate::stp::{
    bpdu::{Message, Rapid, SentRole},
    vector::{BridgeId, PortId, Times, Vector},
};

const SOURCE: [u8; 6] = [0x02, 0, 0, 0, 0, 0x11];

fn message() -> Message {
    Message {
        vector: Vector {
            root: BridgeId {
                priority: 0x1000,
                address: [2, 0, 0, 0, 0, 1],
            },
            cost: 2000,
            bridge: BridgeId {
                priority: 0x8000,
                address: [2, 0, 0, 0, 0, 2],
            },
            port: PortId::new(128, 3),
        },
        times: Times {
            message_age: 1,
            max_age: 20,
            hello_time: 2,
            forward_delay: 15,
        },
        topology_change: true,
        acknowledgment: false,
    }
}

fn rst() -> Bpdu {
    let rapid = Rapid {
        role: SentRole::Designated,
        proposal: true,
        agreement: false,
        learning: true,
        forwarding: false,
    };
    Bpdu::Rst(message(), rapid)
}

/// Every byte, as clause 9.3 has it.
#[test]
fn rst_as_the_standard_writes_it() {
    let frame = encode(SOURCE, &rst());
    let expected: &[u8] = &[
        0x01, 0x80, 0xc2, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x11, // addresses
        0x00, 0x27, 0x42, 0x42, 0x03, // length 39, LLC
        0x00, 0x00, 0x02, 0x02, 0x1f, // protocol, version, type, flags
        0x10, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x01, // root
        0x00, 0x00, 0x07, 0xd0, // cost
        0x80, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x02, // bridge
        0x80, 0x03, // port
        0x01, 0x00, 0x14, 0x00, 0x02, 0x00, 0x0f, 0x00, // times
        0x00, // length of version 1
    ];
    assert_eq!(&frame[..expected.len()], expected);
    assert_eq!(frame.len(), 60);
    assert!(frame[expected.len()..].iter().all(|byte| *byte == 0));
}

#[test]
fn config_and_notification() {
    let mut message = message();
    message.acknowledgment = true;
    let frame = encode(SOURCE, &Bpdu::Config(message));
    assert_eq!(frame[12..22], [0, 0x26, 0x42, 0x42, 3, 0, 0, 0, 0, 0x81]);
    let frame = encode(SOURCE, &Bpdu::Tcn);
    assert_eq!(frame[12..21], [0, 7, 0x42, 0x42, 3, 0, 0, 0, 0x80]);
    assert_eq!(decode(&frame), Ok(Received::Common(Bpdu::Tcn)));
}

#[test]
fn of_a_vlan_as_pvst_writes_it() {
    let frame = encode_for_vlan(SOURCE, 10, true, &rst());
    assert_eq!(frame[..6], PVST_GROUP);
    assert_eq!(frame[12..18], [0x81, 0x00, 0xe0, 10, 0, 50]);
    assert_eq!(frame[18..26], [0xaa, 0xaa, 3, 0, 0, 0x0c, 1, 0x0b]);
    assert_eq!(frame[26..31], [0, 0, 2, 2, 0x1f]);
    // After the 36 bytes: type 0, length 2, VLAN.
    assert_eq!(frame[62..68], [0, 0, 0, 2, 0, 10]);
    let untagged = encode_for_vlan(SOURCE, 10, false, &rst());
    assert_eq!(untagged[12..14], [0, 50]);
}

#[test]
fn what_was_written_is_read() {
    let config = Bpdu::Config(message());
    for bpdu in [rst(), config, Bpdu::Tcn] {
        assert_eq!(decode(&encode(SOURCE, &bpdu)), Ok(Received::Common(bpdu)));
        for tagged in [false, true] {
            let frame = encode_for_vlan(SOURCE, 4094, tagged, &bpdu);
            assert_eq!(decode(&frame), Ok(Received::OfVlan(Some(4094), bpdu)));
        }
    }
}

/// Times are in 1/256 s, and others do not send whole seconds.
#[test]
fn times_are_rounded() {
    let mut frame = encode(SOURCE, &rst());
    // Message age 0.75 s, hello time 0.
    (frame[44], frame[45]) = (0, 192);
    frame[48] = 0;
    let Ok(Received::Common(Bpdu::Rst(read, _))) = decode(&frame) else {
        panic!("{:?}", decode(&frame));
    };
    assert_eq!(read.times.message_age, 1);
    assert_eq!(read.times.hello_time, 1);
}

#[test]
fn what_is_none_is_refused() {
    let good = encode(SOURCE, &rst());
    let changed = |at: usize, to: u8| {
        let mut frame = good.clone();
        frame[at] = to;
        decode(&frame)
    };
    assert_eq!(changed(0, 0x03), Err(NoBpdu::Other));
    assert_eq!(changed(14, 0xaa), Err(NoBpdu::Other));
    assert_eq!(changed(17, 1), Err(NoBpdu::Invalid(Invalid::Protocol)));
    // An RST BPDU is of version 2 at least, and there is no type 3.
    assert_eq!(changed(19, 1), Err(NoBpdu::Invalid(Invalid::Type)));
    assert_eq!(changed(20, 3), Err(NoBpdu::Invalid(Invalid::Type)));
    assert_eq!(changed(13, 38), Err(NoBpdu::Invalid(Invalid::Short)));
    assert_eq!(changed(13, 200), Err(NoBpdu::Length));
    // A later version is read as this one (9.3.4).
    assert!(changed(19, 3).is_ok());
    // Of an unknown role: as if it had none.
    let Ok(Received::Common(Bpdu::Config(_))) = changed(21, 0x13) else {
        panic!("role 0");
    };
    for length in 0..good.len() - 7 {
        assert!(decode(&good[..length]).is_err(), "{length}");
    }
    let old = Message {
        times: Times {
            message_age: 20,
            ..message().times
        },
        ..message()
    };
    let old = encode(SOURCE, &Bpdu::Config(old));
    assert_eq!(decode(&old), Err(NoBpdu::Invalid(Invalid::Age)));
    let mut no_vlan = encode_for_vlan(SOURCE, 10, false, &rst());
    no_vlan[61] = 3;
    assert_eq!(decode(&no_vlan), Err(NoBpdu::NoVlan));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80), group in 0..2) {
        let mut frame = bytes;
        let address = if group == 0 { BRIDGE_GROUP } else { PVST_GROUP };
        let length = frame.len().min(6);
        frame[..length].copy_from_slice(&address[..length]);
        let _any = decode(&frame);
    }
}
