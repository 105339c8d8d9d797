//! What the kernel must have, and whether it does.

use std::{io, os::fd::AsFd};

use nix::sys::utsname::uname;

use super::{
    bpf::{self, MapInfo},
    maps,
};
use crate::resource::{MapKind, MapShape};

/// A feature and whether it is there.
#[derive(Debug)]
pub struct Probe {
    /// What it is for.
    pub name: &'static str,
    /// Since when kernels have it.
    pub needs: &'static str,
    /// Or why not.
    pub result: Result<(), Absence>,
}

/// Why a feature cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Absence {
    /// The kernel lacks it, or does not allow it.
    #[error("{0}")]
    Missing(String),
    /// It could not be tried: the machine is short of something.
    #[error("cannot be tried now: {0}")]
    Untried(String),
}

impl From<bpf::Error> for Absence {
    fn from(error: bpf::Error) -> Self {
        Self::from(error.source)
    }
}

impl From<io::Error> for Absence {
    fn from(error: io::Error) -> Self {
        const SHORT: [libc::c_int; 6] = [
            libc::ENOMEM,
            libc::ENOSPC,
            libc::EMFILE,
            libc::ENFILE,
            libc::EAGAIN,
            libc::EINTR,
        ];
        let short = error
            .raw_os_error()
            .is_some_and(|errno| SHORT.contains(&errno));
        if short {
            Self::Untried(error.to_string())
        } else {
            Self::Missing(error.to_string())
        }
    }
}

/// The oldest kernel that has all features: tcx came with it.
pub const MINIMUM: (u32, u32) = (6, 6);

/// Asks for each feature.
pub fn probes() -> Vec<Probe> {
    let probe = |name, needs, result| Probe {
        name,
        needs,
        result,
    };
    vec![
        probe("tcx links", "Linux 6.6", release()),
        probe("bpf(2)", "CAP_BPF and CAP_NET_ADMIN", map(MapKind::Array)),
        probe("longest-prefix tries", "Linux 4.11", map(MapKind::LpmTrie)),
        probe("batch access to maps", "Linux 5.6", batches()),
        probe("JIT compiler", "net.core.bpf_jit_enable = 1", jit()),
    ]
}

/// The running kernel's version, as far as it is a number.
pub fn version() -> Option<(u32, u32)> {
    let name = uname().ok()?;
    let mut parts = name.release().to_str()?.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn release() -> Result<(), Absence> {
    match version() {
        Some(version) if version >= MINIMUM => Ok(()),
        Some((major, minor)) => Err(Absence::Missing(format!("this is Linux {major}.{minor}"))),
        None => Err(Absence::Missing(
            "the kernel's version cannot be read".to_owned(),
        )),
    }
}

fn shape(kind: MapKind) -> MapShape {
    MapShape {
        kind,
        key_size: 8,
        value_size: 8,
        max_entries: 1,
    }
}

fn map(kind: MapKind) -> Result<(), Absence> {
    let shape = if kind == MapKind::Array {
        MapShape {
            key_size: 4,
            ..shape(kind)
        }
    } else {
        shape(kind)
    };
    Ok(maps::create("probe", shape).map(drop)?)
}

fn batches() -> Result<(), Absence> {
    let map = maps::create("probe", shape(MapKind::Hash))?;
    let _info: MapInfo = bpf::info(map.as_fd())?;
    Ok(bpf::update_batch(map.as_fd(), &[0; 8], &[0; 8], 1)?)
}

fn jit() -> Result<(), Absence> {
    match std::fs::read_to_string("/proc/sys/net/core/bpf_jit_enable") {
        Ok(value) if value.trim() == "0" => Err(Absence::Missing("it is off".to_owned())),
        _ => Ok(()),
    }
}
