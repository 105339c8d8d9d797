//! Problems as values, and the one way to print them.

use std::cmp::Ordering;
use std::fmt::{self, Write as _};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::path::Path;

/// A text and what to call it in messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// File name, or a stand-in such as `<stdin>`.
    pub name: String,
    /// The text: YAML, or JSON as a part of YAML.
    pub text: String,
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// The topology is refused.
    Error,
    /// The topology is accepted, but is hardly what its author wants.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Location {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Length in characters, at least 1; what continues on a later line is not counted.
    pub length: u32,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the topology is refused for it.
    pub severity: Severity,
    /// Stable name of the kind of problem, in kebab case: `unknown-field`.
    pub code: &'static str,
    /// What is wrong, in one sentence.
    pub message: String,
    /// Where in the document: `spec.cubes.br1.bridge.agingTime`.
    pub path: Path,
    /// Where in the text, if the document came from one.
    pub location: Option<Location>,
    /// What to do about it, where that is known.
    pub help: Option<String>,
}

impl Diagnostic {
    pub(crate) fn error(code: &'static str, path: &Path, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message: message.into(),
            path: path.clone(),
            location: None,
            help: None,
        }
    }

    pub(crate) fn warning(code: &'static str, path: &Path, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(code, path, message)
        }
    }

    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    #[must_use]
    pub(crate) fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = self.help.or(help);
        self
    }

    #[must_use]
    pub(crate) fn at(mut self, location: Option<Location>) -> Self {
        self.location = location;
        self
    }

    /// By place; what has none comes last.
    fn compare(&self, other: &Self) -> Ordering {
        let Self {
            severity,
            code,
            message,
            path,
            location,
            help: _,
        } = self;
        (location.is_none(), location, path, severity, code, message).cmp(&(
            other.location.is_none(),
            &other.location,
            &other.path,
            &other.severity,
            &other.code,
            &other.message,
        ))
    }
}

/// Problems in the order of their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// Puts problems into order.
    #[must_use]
    pub fn new(mut diagnostics: Vec<Diagnostic>) -> Self {
        diagnostics.sort_by(Diagnostic::compare);
        Self(diagnostics)
    }

    /// Whether any of them refuses the topology.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0
            .iter()
            .any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// How many there are of one severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.0
            .iter()
            .filter(|diagnostic| diagnostic.severity == severity)
            .count()
    }

    /// The problems as plain text: `FILE:LINE:COLUMN: error[code]: message`, then the line with a caret, then the help.
    #[must_use]
    pub fn render(&self, source: &Source) -> String {
        let lines: Vec<&str> = source.text.lines().collect();
        let mut out = String::new();
        for (position, diagnostic) in self.0.iter().enumerate() {
            if position > 0 {
                out.push('\n');
            }
            let rendered = render_one(&mut out, diagnostic, &source.name, &lines);
            debug_assert!(rendered.is_ok(), "writing to a string cannot fail");
        }
        out
    }

    /// The problems as data for scripts: `severity`, `code`, `message`, `file`, `line`, `column`, `path` and `help`.
    #[must_use]
    pub fn to_json(&self, file: &str) -> serde_json::Value {
        self.0
            .iter()
            .map(|diagnostic| {
                serde_json::to_value(Record {
                    diagnostic,
                    file: Some(file),
                })
                .unwrap_or_default()
            })
            .collect()
    }

    /// The problems, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// The problems as a list.
    #[must_use]
    pub fn into_vec(self) -> Vec<Diagnostic> {
        self.0
    }
}

impl std::ops::Deref for Diagnostics {
    type Target = [Diagnostic];

    fn deref(&self) -> &[Diagnostic] {
        &self.0
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// One line per problem, without the text; see [`Diagnostics::render`] for the full form.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, diagnostic) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { "\n" };
            write!(
                f,
                "{separator}{}[{}]: {}",
                diagnostic.severity, diagnostic.code, diagnostic.message
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

impl Serialize for Diagnostics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl Serialize for Diagnostic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Record {
            diagnostic: self,
            file: None,
        }
        .serialize(serializer)
    }
}

/// A problem as scripts see it: every key is always there.
struct Record<'a> {
    diagnostic: &'a Diagnostic,
    file: Option<&'a str>,
}

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Diagnostic {
            severity,
            code,
            message,
            path,
            location,
            help,
        } = self.diagnostic;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("severity", severity)?;
        map.serialize_entry("code", code)?;
        map.serialize_entry("message", message)?;
        if let Some(file) = self.file {
            map.serialize_entry("file", file)?;
        }
        map.serialize_entry("line", &location.map(|location| location.line))?;
        map.serialize_entry("column", &location.map(|location| location.column))?;
        map.serialize_entry("path", &path.to_string())?;
        map.serialize_entry("help", help)?;
        map.end()
    }
}

fn render_one(
    out: &mut String,
    diagnostic: &Diagnostic,
    file: &str,
    lines: &[&str],
) -> fmt::Result {
    let Diagnostic {
        severity,
        code,
        message,
        path: _,
        location,
        help,
    } = diagnostic;
    match location {
        Some(Location { line, column, .. }) => {
            writeln!(out, "{file}:{line}:{column}: {severity}[{code}]: {message}")?
        }
        None => writeln!(out, "{file}: {severity}[{code}]: {message}")?,
    }
    let mut margin = 2;
    if let Some(location) = location {
        let line = usize::try_from(location.line)
            .ok()
            .and_then(|line| lines.get(line.checked_sub(1)?));
        if let Some(line) = line.filter(|line| line.len() <= LONGEST_LINE) {
            margin = location.line.to_string().len();
            render_snippet(out, line, *location, margin)?;
        }
    }
    if let Some(help) = help {
        writeln!(out, "{:margin$} = help: {help}", "")?;
    }
    Ok(())
}

/// Longest line of which a part is shown, in bytes: finding a column takes time, and there may be many problems.
const LONGEST_LINE: usize = 16 << 10;

/// Longest part of a line that is shown, in characters.
const SNIPPET_WIDTH: usize = 120;

fn render_snippet(out: &mut String, line: &str, location: Location, margin: usize) -> fmt::Result {
    let column = usize::try_from(location.column)
        .unwrap_or(1)
        .saturating_sub(1);
    // A very long line (JSON on one line) is shown around the place only.
    let skip = if column + 20 > SNIPPET_WIDTH {
        column - 20
    } else {
        0
    };
    let shown: String = line
        .chars()
        .skip(skip)
        .take(SNIPPET_WIDTH)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let room = shown.chars().count().saturating_sub(column - skip).max(1);
    let carets = usize::try_from(location.length).unwrap_or(1).clamp(1, room);
    writeln!(out, "{:margin$} |", "")?;
    writeln!(out, "{} | {}", location.line, shown.trim_end())?;
    writeln!(
        out,
        "{:margin$} | {:indent$}{}",
        "",
        "",
        "^".repeat(carets),
        indent = column - skip
    )
}
