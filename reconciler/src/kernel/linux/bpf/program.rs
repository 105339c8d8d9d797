//! Programs: loading them with their debug information.

#![expect(
    unsafe_code,
    reason = "system calls; each block states why it is sound"
)]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use bytemuck::{Pod, Zeroable};

use super::{BTF_LOAD, PROG_LOAD, Result, bpf_fd, fail, object_name};

/// What a program is loaded from.
pub struct ProgramRequest<'a> {
    /// At most 15 bytes are kept.
    pub name: &'a str,
    /// `enum bpf_prog_type`.
    pub program_type: u32,
    /// `enum bpf_attach_type`, where the type wants one.
    pub attach_type: u32,
    /// Instructions, eight bytes each.
    pub instructions: &'a [u8],
    /// Licence, with its terminating zero.
    pub license: &'a [u8],
    /// BTF, and records about functions and lines.
    pub btf: Option<ProgramBtf<'a>>,
}

/// Debug information of a program.
pub struct ProgramBtf<'a> {
    /// The loaded BTF.
    pub fd: BorrowedFd<'a>,
    /// `struct bpf_func_info` records and the size of one.
    pub functions: (&'a [u8], u32),
    /// `struct bpf_line_info` records and the size of one.
    pub lines: (&'a [u8], u32),
}

/// Bytes of the verifier's log that are kept.
const LOG_SIZE: usize = 1 << 20;

/// Loads a program. When the verifier refuses it, loads it again with a log for the error.
pub fn load_program(request: &ProgramRequest<'_>) -> Result<OwnedFd> {
    match try_load(request, &mut []) {
        Ok(fd) => Ok(fd),
        Err(first) => {
            let mut log = vec![0u8; LOG_SIZE];
            match try_load(request, &mut log) {
                Ok(fd) => Ok(fd),
                Err(_) => {
                    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
                    let log = String::from_utf8_lossy(&log[..end]).trim_end().to_owned();
                    let mut error = fail("load program", request.name)(first);
                    error.log = (!log.is_empty()).then_some(log);
                    Err(error)
                }
            }
        }
    }
}

fn try_load(request: &ProgramRequest<'_>, log: &mut [u8]) -> io::Result<OwnedFd> {
    #[repr(C)]
    #[derive(Clone, Copy, Pod, Zeroable)]
    struct Attr {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
        kern_version: u32,
        prog_flags: u32,
        prog_name: [u8; 16],
        prog_ifindex: u32,
        expected_attach_type: u32,
        prog_btf_fd: u32,
        func_info_rec_size: u32,
        func_info: u64,
        func_info_cnt: u32,
        line_info_rec_size: u32,
        line_info: u64,
        line_info_cnt: u32,
        attach_btf_id: u32,
    }
    let mut attr = Attr::zeroed();
    attr.prog_type = request.program_type;
    attr.insn_cnt = (request.instructions.len() / 8) as u32;
    attr.insns = request.instructions.as_ptr() as u64;
    attr.license = request.license.as_ptr() as u64;
    attr.prog_name = object_name(request.name);
    attr.expected_attach_type = request.attach_type;
    if !log.is_empty() {
        attr.log_level = 1;
        attr.log_size = log.len() as u32;
        attr.log_buf = log.as_mut_ptr() as u64;
    }
    if let Some(btf) = &request.btf {
        attr.prog_btf_fd = btf.fd.as_raw_fd() as u32;
        (attr.func_info_rec_size, attr.line_info_rec_size) = (btf.functions.1, btf.lines.1);
        attr.func_info = btf.functions.0.as_ptr() as u64;
        attr.func_info_cnt = btf.functions.0.len() as u32 / btf.functions.1.max(1);
        attr.line_info = btf.lines.0.as_ptr() as u64;
        attr.line_info_cnt = btf.lines.0.len() as u32 / btf.lines.1.max(1);
    }
    // SAFETY: every pointer is to a slice of `request` or to `log`, with its length beside it.
    unsafe { bpf_fd(PROG_LOAD, attr) }
}

/// Loads BTF.
pub fn load_btf(object: &str, btf: &[u8]) -> Result<OwnedFd> {
    #[repr(C)]
    #[derive(Clone, Copy, Pod, Zeroable)]
    struct Attr {
        btf: u64,
        btf_log_buf: u64,
        btf_size: u32,
        btf_log_size: u32,
        btf_log_level: u32,
        pad: u32,
    }
    let mut attr = Attr::zeroed();
    attr.btf = btf.as_ptr() as u64;
    attr.btf_size = btf.len() as u32;
    // SAFETY: `btf` is valid for its length.
    unsafe { bpf_fd(BTF_LOAD, attr) }.map_err(fail("load BTF of", object))
}
