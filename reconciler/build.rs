//! Builds the data planes and embeds them, so that `pcn` is one file that needs no compiler.
//!
//! Two toolchains will do (see `docs/internals/dataplane.md`): Debian's `rustc-web` with a
//! prebuilt `core` for the target, or a rustup nightly with `rust-src`. `PCN_BPF_CARGO` and
//! `PCN_BPF_RUSTC` choose one of your own with a prebuilt `core`; `PCN_BPF_LINKER` names
//! `bpf-linker`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, exit},
};

use object::build::elf::{Builder, SectionData};
use sha2::{Digest, Sha256};

const TARGET: &str = "bpfel-unknown-none";
const PROGRAMS: &str = "../ebpf/programs";
/// Programs that test and measure: built beside the others, and not part of the product.
const INSTRUMENTS: &str = "../ebpf/programs/instruments";

fn main() {
    for path in [PROGRAMS, INSTRUMENTS, "../ebpf/abi"] {
        for part in ["src", "Cargo.toml"] {
            println!("cargo::rerun-if-changed={path}/{part}");
        }
    }
    // Not a file that does not exist: cargo would run this, and build all of this crate, each time.
    println!("cargo::rerun-if-changed={PROGRAMS}/Cargo.lock");
    for variable in ["PCN_BPF_CARGO", "PCN_BPF_RUSTC", "PCN_BPF_LINKER"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let linker = find_linker();
    let toolchain = Toolchain::find();
    let target_dir = out.join("ebpf");
    build(&toolchain, &linker, &target_dir);
    let objects = target_dir.join(TARGET).join("release");
    embed(&objects, &out);
    set_instruments_aside(&objects, &out.join("instruments"));
}

/// How to compile for the BPF target.
struct Toolchain {
    cargo: PathBuf,
    rustc: Option<PathBuf>,
    arguments: &'static [&'static str],
}

impl Toolchain {
    fn find() -> Self {
        if let (Some(cargo), Some(rustc)) =
            (env::var_os("PCN_BPF_CARGO"), env::var_os("PCN_BPF_RUSTC"))
        {
            return Self {
                cargo: cargo.into(),
                rustc: Some(rustc.into()),
                arguments: &[],
            };
        }
        let debian = Path::new("/usr/bin/rustc");
        if has_prebuilt_core(debian) {
            return Self {
                cargo: "/usr/bin/cargo".into(),
                rustc: Some(debian.into()),
                arguments: &[],
            };
        }
        let rustup = env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| env::home_dir().map(|home| home.join(".cargo")))
            .map(|home| home.join("bin/cargo"))
            .filter(|cargo| cargo.exists() && nightly_has_sources());
        match rustup {
            Some(cargo) => Self {
                cargo,
                rustc: None,
                arguments: &["+nightly", "-Zbuild-std=core"],
            },
            None => missing(
                "a Rust toolchain for the BPF target",
                "On Debian 12: apt-get install rustc-web cargo-web libstd-rust-web-dev-bpf\n\
                 Elsewhere:    rustup toolchain install nightly --component rust-src",
            ),
        }
    }
}

/// True if this compiler ships `core` for the target.
fn has_prebuilt_core(rustc: &Path) -> bool {
    let Ok(output) = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
    else {
        return false;
    };
    let directory = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success()
        && fs::read_dir(directory).is_ok_and(|entries| {
            entries
                .flatten()
                .any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
        })
}

fn nightly_has_sources() -> bool {
    Command::new("rustc")
        .args(["+nightly", "--print", "sysroot"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
        .is_some_and(|sysroot| sysroot.join("lib/rustlib/src/rust/library/core").exists())
}

fn find_linker() -> PathBuf {
    if let Some(linker) = env::var_os("PCN_BPF_LINKER") {
        return linker.into();
    }
    let in_path = env::var_os("PATH")
        .into_iter()
        .flat_map(|path| env::split_paths(&path).collect::<Vec<_>>());
    let in_cargo = env::home_dir()
        .into_iter()
        .map(|home| home.join(".cargo/bin"));
    in_path
        .chain(in_cargo)
        .map(|directory| directory.join("bpf-linker"))
        .find(|linker| linker.exists())
        .unwrap_or_else(|| {
            missing(
                "bpf-linker",
                "apt-get install llvm-22-dev libpolly-22-dev libzstd-dev zlib1g-dev\n\
                 LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker --no-default-features --features llvm-22",
            )
        })
}

fn missing(what: &str, remedy: &str) -> ! {
    eprintln!(
        "pcn cannot build its data planes: {what} is missing. `./x setup` installs it, or:\n{remedy}"
    );
    exit(1);
}

fn build(toolchain: &Toolchain, linker: &Path, target_dir: &Path) {
    let root = fs::canonicalize("..").unwrap_or_else(|_| "..".into());
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")))
        .unwrap_or_default();
    let flags = [
        format!("-Clinker={}", linker.display()),
        "-Clink-arg=--btf".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        "-Ctarget-cpu=v3".to_owned(),
        // The same sources give the same objects, wherever they are: a program's identity
        // follows from its object.
        format!("--remap-path-prefix={}=pcn", root.display()),
        format!("--remap-path-prefix={}=cargo", cargo_home.display()),
    ];
    let mut command = Command::new(&toolchain.cargo);
    command
        .args(toolchain.arguments)
        .args([
            "build",
            "--release",
            "--workspace",
            "--locked",
            "--target",
            TARGET,
            "--target-dir",
        ])
        .arg(target_dir)
        .current_dir(PROGRAMS)
        // The data planes use an unstable feature: assembly, for jumps with a constant slot.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    // This build's own settings are for the host.
    for variable in [
        "RUSTUP_TOOLCHAIN",
        "CARGO",
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTFLAGS",
    ] {
        command.env_remove(variable);
    }
    if let Some(rustc) = &toolchain.rustc {
        command.env("RUSTC", rustc);
    }
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => {
            eprintln!("building the data planes failed: {status}");
            exit(1);
        }
        Err(error) => {
            eprintln!("cannot run {}: {error}", toolchain.cargo.display());
            exit(1);
        }
    }
}

/// The programs of a package: cargo makes one of each file or folder in `src/bin`.
fn programs(package: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(Path::new(package).join("src/bin"))
        .expect("the data planes are there")
        .flatten()
        .filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    names
}

/// Where the crates that test and measure find their programs: `DEP_PCN_DATA_PLANES_INSTRUMENTS`.
fn set_instruments_aside(objects: &Path, folder: &Path) {
    fs::create_dir_all(folder).expect("OUT_DIR can be written");
    for name in programs(INSTRUMENTS) {
        let path = folder.join(&name).with_extension("o");
        fs::write(&path, without_debug_information(&objects.join(&name)))
            .expect("OUT_DIR can be written");
    }
    println!("cargo::metadata=instruments={}", folder.display());
}

/// Writes a table of all objects of the product: name, bytes, and their hash, which no run has to make then.
fn embed(objects: &Path, out: &Path) {
    let mut table = String::from(
        "/// Name, bytes and SHA-256 of each object.\npub(crate) const OBJECTS: &[(&str, &[u8], [u8; 32])] = &[\n",
    );
    for name in programs(PROGRAMS) {
        let path = out.join(&name).with_extension("o");
        let object = without_debug_information(&objects.join(&name));
        fs::write(&path, &object).expect("OUT_DIR can be written");
        let hash: [u8; 32] = Sha256::digest(&object).into();
        table += &format!("    ({name:?}, aya::include_bytes_aligned!({path:?}), {hash:?}),\n");
    }
    table += "];\n";
    fs::write(out.join("objects.rs"), table).expect("OUT_DIR can be written");
}

/// An object without what only debuggers read: four fifths of it. Types and lines, which the verifier and
/// `bpftool` show, are in sections of their own (`.BTF`, `.BTF.ext`).
fn without_debug_information(path: &Path) -> Vec<u8> {
    let object = fs::read(path).expect("the data planes were built");
    let mut elf = Builder::read(&*object).expect("bpf-linker writes ELF");
    for section in &mut elf.sections {
        let name = section.name.as_slice();
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    elf.delete_orphans();
    // LLVM has one table for the names of symbols and sections; the writer wants two.
    let names = elf.sections.add();
    names.name = ".shstrtab".into();
    names.sh_type = object::elf::SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    elf.write(&mut stripped)
        .expect("what was read can be written");
    stripped
}
