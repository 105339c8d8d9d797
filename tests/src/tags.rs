//! VLAN tags outside of packets: on TC the kernel takes the outermost tag out of a frame before
//! programs see it, and puts it back behind them. The test run does neither; these two small
//! programs, one before the program under test and one after it, do.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use reconciler::kernel::linux::bpf::{
    self, MapAttributes, MapType, ProgramRequest, create_map, load_program,
};

/// `BPF_PROG_TYPE_SCHED_CLS`
const SCHED_CLS: u32 = 3;

/// Helpers (linux/bpf.h).
const TAIL_CALL: i32 = 12;
const VLAN_PUSH: i32 = 18;
const VLAN_POP: i32 = 19;

/// Offsets in `struct __sk_buff`.
const VLAN_PRESENT: i16 = 20;
const VLAN_TCI: i16 = 24;
const VLAN_PROTO: i16 = 28;
/// The words of the control block where a packet's tag is noted: its type, its content.
pub(crate) const NOTED_TYPE: usize = 48 + 4 * 3;
pub(crate) const NOTED_CONTROL: usize = 48 + 4 * 4;

/// One instruction.
fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Vec<u8> {
    let mut bytes = vec![code, destination | source << 4];
    bytes.extend(offset.to_ne_bytes());
    bytes.extend(immediate.to_ne_bytes());
    bytes
}

fn load_word(destination: u8, offset: i16) -> Vec<u8> {
    instruction(0x61, destination, 1, offset, 0)
}

fn store_word(source: u8, offset: usize) -> Vec<u8> {
    instruction(0x63, 1, source, offset as i16, 0)
}

fn set(register: u8, value: i32) -> Vec<u8> {
    instruction(0xb7, register, 0, 0, value)
}

fn copy(to: u8, from: u8) -> Vec<u8> {
    instruction(0xbf, to, from, 0, 0)
}

fn call(helper: i32) -> Vec<u8> {
    instruction(0x85, 0, 0, 0, helper)
}

fn finish(verdict: i32) -> Vec<u8> {
    [set(0, verdict), instruction(0x95, 0, 0, 0, 0)].concat()
}

fn load(name: &str, instructions: &[Vec<u8>]) -> OwnedFd {
    load_program(&ProgramRequest {
        name,
        program_type: SCHED_CLS,
        attach_type: 0,
        instructions: &instructions.concat(),
        license: b"GPL\0",
        btf: None,
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", error.log.as_deref().unwrap_or("(no log)")))
}

/// Lets everything pass, and notes the tag that is outside of the packet.
pub(crate) fn noting_program() -> OwnedFd {
    load(
        "note_tag",
        &[
            load_word(2, VLAN_PRESENT),
            instruction(0x15, 2, 0, 4, 0),
            load_word(2, VLAN_PROTO),
            store_word(2, NOTED_TYPE),
            load_word(2, VLAN_TCI),
            store_word(2, NOTED_CONTROL),
            finish(-1),
        ],
    )
}

/// A program that takes the outermost tag out of the packet, and goes on to `program`. The array
/// through which it does must live as long.
pub(crate) fn taking_program(program: BorrowedFd<'_>, kind: u16, control: u16) -> [OwnedFd; 2] {
    let array = create_map(
        "then",
        MapAttributes {
            map_type: MapType::ProgramArray as u32,
            key_size: 4,
            value_size: 4,
            max_entries: 1,
            flags: 0,
        },
    )
    .expect("root can make maps");
    let fd = array.as_raw_fd();
    bpf::update(
        array.as_fd(),
        &0u32.to_ne_bytes(),
        &program.as_raw_fd().to_ne_bytes(),
    )
    .expect("the array has room");
    const MAP_FD: u8 = 1;
    let program = load(
        "take_tag",
        &[
            copy(6, 1),
            call(VLAN_POP),
            copy(1, 6),
            set(2, i32::from(kind.to_be())),
            set(3, i32::from(control)),
            call(VLAN_PUSH),
            copy(1, 6),
            instruction(0x18, 2, MAP_FD, 0, fd),
            instruction(0, 0, 0, 0, 0),
            set(3, 0),
            call(TAIL_CALL),
            finish(2),
        ],
    );
    [program, array]
}

/// The outermost tag of a frame: its type and its content.
pub(crate) fn outermost(frame: &[u8]) -> Option<(u16, u16)> {
    let word = |at| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    let kind = word(12)?;
    matches!(kind, 0x8100 | 0x88a8)
        .then(|| Some((kind, word(14)?)))
        .flatten()
}

/// The frame with the tag that was noted for it in a control block.
pub(crate) fn with_noted(mut frame: Vec<u8>, context: &[u8]) -> Vec<u8> {
    let word = |at: usize| context.get(at..at + 4).map(|bytes| bytes.try_into().ok());
    let number = |at| word(at).flatten().map_or(0, u32::from_ne_bytes);
    let kind = number(NOTED_TYPE) as u16;
    if kind != 0 {
        let control = number(NOTED_CONTROL) as u16;
        let tag = [kind.to_ne_bytes(), control.to_be_bytes()].concat();
        frame.splice(12..12, tag);
    }
    frame
}
