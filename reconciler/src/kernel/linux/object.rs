//! Object files: parsed once, specialised for each program that is loaded from them.

use std::{
    collections::{BTreeMap, HashSet},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

use aya_obj::{
    EbpfSectionKind, Object,
    btf::{Btf, BtfFeatures},
};

use super::bpf;
use crate::objects;

/// `BPF_PROG_TYPE_SCHED_CLS`.
const SCHED_CLS: u32 = 3;
/// `BPF_PROG_TYPE_XDP`.
const XDP: u32 = 6;
/// `BPF_XDP`.
const ATTACH_XDP: u32 = 37;

/// A program cannot be made from an object file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file itself, or its relocations.
    #[error("object {object}: {problem}")]
    Object {
        /// Which one.
        object: String,
        /// What is wrong.
        problem: String,
    },
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] bpf::Error),
}

/// Object files, parsed when they are first needed, by whichever thread that is.
#[derive(Default)]
pub struct Objects(Mutex<BTreeMap<&'static str, Arc<Parsed>>>);

/// An object file, once it was parsed.
type Parsed = Mutex<Option<Arc<Template>>>;

impl Objects {
    /// The object of this name.
    pub fn get(&self, name: &'static str) -> Result<Arc<Template>, Error> {
        // A thread that panicked left nothing half done: what is there is whole.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = Arc::clone(all.entry(name).or_default());
        drop(all);
        // Only who needs the same object waits until it is parsed.
        let mut own = own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(template) = &*own {
            return Ok(Arc::clone(template));
        }
        let bytes = objects::find(name).ok_or_else(|| Error::Object {
            object: name.to_owned(),
            problem: "there is none of that name".to_owned(),
        })?;
        let template = Arc::new(Template::parse(name, bytes)?);
        *own = Some(Arc::clone(&template));
        Ok(template)
    }
}

/// One kind's object file, ready to be specialised.
pub struct Template {
    name: String,
    object: Object,
    text_sections: HashSet<usize>,
    btf: Option<OwnedFd>,
}

impl Template {
    /// Parses an object file and loads its BTF: once per kind and run of `pcn`.
    pub fn parse(name: &str, elf: &[u8]) -> Result<Self, Error> {
        let failed = |problem: String| Error::Object {
            object: name.to_owned(),
            problem,
        };
        let mut object = Object::parse(elf).map_err(|error| failed(error.to_string()))?;
        let btf = match object
            .fixup_and_sanitize_btf(&kernel_btf())
            .map_err(|error| failed(error.to_string()))?
        {
            Some(btf) => load_btf(name, btf)?,
            None => None,
        };
        let text_sections = object
            .functions
            .keys()
            .map(|(section, _)| *section)
            .collect();
        Ok(Self {
            name: name.to_owned(),
            object,
            text_sections,
            btf,
        })
    }

    /// Loads one entry point with its constants, onto maps that exist.
    ///
    /// `globals` are written over the read-only globals of the same name. A map that the entry
    /// point does not use may be missing from `maps`.
    pub fn load(
        &self,
        entry_point: &str,
        name: &str,
        globals: &BTreeMap<String, Vec<u8>>,
        maps: &BTreeMap<String, BorrowedFd<'_>>,
    ) -> Result<OwnedFd, Error> {
        let mut object = self.object.clone();
        object.programs.retain(|program, _| program == entry_point);
        object
            .patch_map_data(
                globals
                    .iter()
                    .map(|(name, value)| (name.as_str(), (value.as_slice(), true)))
                    .collect(),
            )
            .map_err(|error| self.failed(error))?;
        let rodata = self.read_only_data(&object)?;
        let fds: Vec<(String, i32)> = object
            .maps
            .keys()
            .map(|map| {
                let fd = match (rodata.get(map), maps.get(map)) {
                    (Some(fd), _) => fd.as_raw_fd(),
                    (_, Some(fd)) => fd.as_raw_fd(),
                    // Not used by this entry point, or the kernel will say so.
                    _ => -1,
                };
                (map.clone(), fd)
            })
            .collect();
        let map_objects = object.maps.clone();
        object
            .relocate_maps(
                fds.iter()
                    .map(|(name, fd)| (name.as_str(), *fd, &map_objects[name])),
                &self.text_sections,
            )
            .map_err(|error| self.failed(error))?;
        object
            .relocate_calls(&self.text_sections)
            .map_err(|error| self.failed(error))?;
        let program = object
            .programs
            .get(entry_point)
            .ok_or_else(|| self.failed(format!("no entry point {entry_point}")))?;
        let function = &object.functions[&program.function_key()];
        let (program_type, attach_type) = match program.section {
            aya_obj::ProgramSection::Xdp { .. } => (XDP, ATTACH_XDP),
            _ => (SCHED_CLS, 0),
        };
        let functions = function.func_info.func_info_bytes();
        let lines = function.line_info.line_info_bytes();
        let request = bpf::ProgramRequest {
            name,
            program_type,
            attach_type,
            instructions: &instruction_bytes(&function.instructions),
            license: program.license.as_bytes_with_nul(),
            btf: self.btf.as_ref().map(|fd| bpf::ProgramBtf {
                fd: fd.as_fd(),
                functions: (&functions, function.func_info_rec_size as u32),
                lines: (&lines, function.line_info_rec_size as u32),
            }),
        };
        Ok(bpf::load_program(&request)?)
    }

    /// True if the object has this entry point.
    pub fn has(&self, entry_point: &str) -> bool {
        self.object.programs.contains_key(entry_point)
    }

    /// The maps of read-only globals and of constants that do not fit into instructions, by
    /// section.
    fn read_only_data(&self, object: &Object) -> Result<BTreeMap<String, OwnedFd>, Error> {
        object
            .maps
            .iter()
            .filter(|(_, map)| map.section_kind() == EbpfSectionKind::Rodata)
            .map(|(name, map)| Ok((name.clone(), bpf::create_frozen(&self.name, map.data())?)))
            .collect()
    }

    fn failed(&self, problem: impl ToString) -> Error {
        Error::Object {
            object: self.name.clone(),
            problem: problem.to_string(),
        }
    }
}

/// What BTF the kernel takes: all of it since Linux 5.12, and we need 6.6.
fn kernel_btf() -> BtfFeatures {
    BtfFeatures::new(true, true, true, true, true, true, true, true)
}

/// BTF is for people who debug; without it everything works.
fn load_btf(name: &str, btf: &Btf) -> Result<Option<OwnedFd>, Error> {
    match bpf::load_btf(name, &btf.to_bytes()) {
        Ok(fd) => Ok(Some(fd)),
        Err(error) if error.errno() == libc::EPERM => Err(error.into()),
        Err(error) => {
            tracing::debug!(object = name, %error, "kernel refuses BTF");
            Ok(None)
        }
    }
}

/// The instructions in the layout of `struct bpf_insn`.
fn instruction_bytes(instructions: &[aya_obj::generated::bpf_insn]) -> Vec<u8> {
    instructions
        .iter()
        .flat_map(|i| {
            let [off0, off1] = i.off.to_ne_bytes();
            let [imm0, imm1, imm2, imm3] = i.imm.to_ne_bytes();
            [
                i.code,
                i.dst_reg() | (i.src_reg() << 4),
                off0,
                off1,
                imm0,
                imm1,
                imm2,
                imm3,
            ]
        })
        .collect()
}
