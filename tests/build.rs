//! A table of the programs that tests and measurements load beside the product's (`ebpf/programs/instruments`).

use std::{env, fs, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let folder = PathBuf::from(
        env::var_os("DEP_PCN_DATA_PLANES_INSTRUMENTS").expect("reconciler/build.rs says where"),
    );
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("reconciler/build.rs made it")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    let mut table = String::from("const INSTRUMENTS: &[(&str, &[u8])] = &[\n");
    for file in files {
        let name = file.file_stem().expect("a file has a name");
        table += &format!("    ({name:?}, aya::include_bytes_aligned!({file:?})),\n");
    }
    table += "];\n";
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("instruments.rs"), table).expect("OUT_DIR can be written");
}
