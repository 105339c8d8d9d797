//! What `-f` names: files, directories, stdin.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use clap::Args;
use topology_schema::{Diagnostics, MAX_BYTES, Name, Source, ValidTopology, load};

use super::{
    exit::{ExitCode, Failure},
    output,
};

/// What stdin is called in messages.
const STDIN: &str = "<stdin>";

/// The files of a command.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct FileArgs {
    /// Topology file, directory of *.yaml and *.yml files, or `-` for stdin; repeats
    #[arg(
        short = 'f',
        long = "file",
        value_name = "FILE",
        required = true,
        env = "PCN_FILE"
    )]
    pub(super) files: Vec<PathBuf>,
}

/// A file and what is in it.
pub(super) struct Input {
    /// The text.
    pub(super) source: Source,
    /// The topology, if it is valid.
    pub(super) topology: ValidTopology,
    /// What is hardly meant.
    pub(super) warnings: Diagnostics,
}

impl Input {
    /// The topology's name.
    pub(super) fn name(&self) -> &Name {
        &self.topology.topology().metadata.name
    }
}

/// A file, valid or not.
pub(super) struct Checked {
    /// The text.
    pub(super) source: Source,
    /// What it says, or what is wrong.
    pub(super) result: Result<(ValidTopology, Diagnostics), Diagnostics>,
}

/// Reads and checks all files; tells people on stderr what is wrong with any of them.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<Input>, Failure> {
    read_seeing(paths, |_| ())
}

/// The same; `see` sees each text before it is checked.
pub(super) fn read_seeing(
    paths: &[PathBuf],
    see: impl FnMut(&Source),
) -> Result<Vec<Input>, Failure> {
    let mut inputs = Vec::new();
    let mut invalid = Vec::new();
    for Checked { source, result } in check_seeing(paths, see)? {
        let problems = match &result {
            Ok((_, warnings)) => warnings,
            Err(problems) => problems,
        };
        report(problems, &source);
        match result {
            Ok((topology, warnings)) => inputs.push(Input {
                source,
                topology,
                warnings,
            }),
            Err(_) => invalid.push(source.name),
        }
    }
    if !invalid.is_empty() {
        let message = format!(
            "{}: not a valid topology; nothing was done",
            invalid.join(", ")
        );
        return Err(Failure::new(ExitCode::InvalidFile, message));
    }
    match duplicate(inputs.iter().map(|input| (input.name(), &input.source))) {
        Some(message) => Err(Failure::new(ExitCode::InvalidFile, message)),
        None => Ok(inputs),
    }
}

/// Reads all files and checks each.
pub(super) fn check(paths: &[PathBuf]) -> Result<Vec<Checked>, Failure> {
    check_seeing(paths, |_| ())
}

fn check_seeing(paths: &[PathBuf], mut see: impl FnMut(&Source)) -> Result<Vec<Checked>, Failure> {
    let mut checked = Vec::new();
    for path in expand(paths)? {
        let source = read_source(&path)?;
        see(&source);
        let result = load(&source);
        checked.push(Checked { source, result });
    }
    Ok(checked)
}

/// Prints problems to stderr, as the text has them.
pub(crate) fn report(problems: &Diagnostics, source: &Source) {
    if !problems.is_empty() {
        output::note_raw(&problems.render(source));
    }
}

/// Says which name two files give.
pub(super) fn duplicate<'a>(names: impl Iterator<Item = (&'a Name, &'a Source)>) -> Option<String> {
    let mut seen: BTreeMap<&Name, &Source> = BTreeMap::new();
    for (name, source) in names {
        if let Some(first) = seen.insert(name, source) {
            return Some(format!(
                "{}: topology `{name}` is in {} already",
                source.name, first.name
            ));
        }
    }
    None
}

/// Directories become the files in them, in the order of their names.
fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let stdin = Path::new("-");
    if paths.iter().filter(|path| *path == stdin).count() > 1 {
        return Err(Failure::new(
            ExitCode::Usage,
            "`-f -` can be given only once: stdin is read to its end",
        ));
    }
    let mut files = Vec::new();
    for path in paths {
        if path == stdin || !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        let entries = fs::read_dir(path).map_err(|error| unreadable(path, &error))?;
        for entry in entries {
            let file = entry.map_err(|error| unreadable(path, &error))?.path();
            let is_yaml = file
                .extension()
                .is_some_and(|extension| extension == "yaml" || extension == "yml");
            if is_yaml && !file.is_dir() {
                files.push(file);
            }
        }
        files[before..].sort();
        if files.len() == before {
            let message = format!("{}: no *.yaml or *.yml in this directory", path.display());
            return Err(Failure::new(ExitCode::Error, message));
        }
    }
    Ok(files)
}

/// Reads a file, or stdin.
pub(crate) fn read_source(path: &Path) -> Result<Source, Failure> {
    let (name, bytes) = if path == Path::new("-") {
        (STDIN.to_owned(), read_bytes(io::stdin().lock()))
    } else {
        (
            path.display().to_string(),
            File::open(path).and_then(read_bytes),
        )
    };
    let bytes = bytes.map_err(|error| unreadable(Path::new(&name), &error))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source { name, text }),
        Err(error) => {
            let place = place(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
            let message = format!("{name}:{place}: error[invalid-utf8]: the text is not UTF-8");
            Err(Failure::new(ExitCode::InvalidFile, message))
        }
    }
}

/// One byte more than is allowed: what is refused for its size need not be read whole.
fn read_bytes(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    // The limit must not look like a broken character.
    if bytes.len() > MAX_BYTES {
        let valid = std::str::from_utf8(&bytes).map_or_else(|error| error.valid_up_to(), str::len);
        if bytes.len() - valid < 4 {
            bytes.truncate(valid);
            bytes.resize(MAX_BYTES + 1, b' ');
        }
    }
    Ok(bytes)
}

/// Line and column behind a text.
fn place(before: &[u8]) -> String {
    let text = String::from_utf8_lossy(before);
    let line = text.matches('\n').count() + 1;
    let column = text.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{line}:{column}")
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(ExitCode::Error, format!("{}: {error}", path.display()))
}
