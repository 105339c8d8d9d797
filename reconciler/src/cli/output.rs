//! Results go to stdout, everything else to stderr. A reader that goes away (`pcn show | head`)
//! is no error.

use std::{
    io::{self, IsTerminal, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use anstyle::{AnsiColor, Style};
use console::Term;
use serde_json::Value;

use super::exit::{ExitCode, Failure};

/// Styles, by what they are for. Terminals that want no colours get none: the streams strip them.
pub(crate) mod style {
    use super::{AnsiColor, Style};

    /// What comes.
    pub(crate) const CREATE: Style = AnsiColor::Green.on_default();
    /// What changes.
    pub(crate) const UPDATE: Style = AnsiColor::Yellow.on_default();
    /// What goes.
    pub(crate) const DELETE: Style = AnsiColor::Red.on_default();
    /// Titles.
    pub(crate) const TITLE: Style = Style::new().bold();
    /// What matters less.
    pub(crate) const DIM: Style = Style::new().dimmed();
}

/// Puts a style around a text.
pub(crate) fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Writes a result to stdout.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    finish(write_all(anstream::stdout(), text))
}

/// Writes bytes that have no styles to stdout.
pub(super) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    finish(stdout.write_all(bytes).and_then(|()| stdout.flush()))
}

/// Writes JSON to stdout.
pub(super) fn print_json(value: &Value) -> Result<(), Failure> {
    print_bytes(pretty(value).as_bytes())
}

/// JSON as people can read it, with a final newline.
pub(super) fn pretty(value: &Value) -> String {
    // The alternate form of a value is indented JSON, and cannot fail.
    format!("{value:#}\n")
}

/// Shows one text after another: in place on a terminal, below each other elsewhere.
pub(super) struct Screen {
    terminal: Option<Term>,
    first: bool,
}

impl Screen {
    /// On stdout. Only if `in_place`, and on a terminal, a text takes the place of the one before.
    pub(super) fn new(in_place: bool) -> Self {
        let terminal = Some(Term::stdout()).filter(|terminal| in_place && terminal.is_term());
        if terminal.is_some() {
            // Another screen, so that what was there comes back; lines are cut, not wrapped.
            let _shown_with_the_text = write_all(io::stdout(), "\x1b[?1049h\x1b[?7l\x1b[?25l");
        }
        Self {
            terminal,
            first: true,
        }
    }

    /// Shows a text; what does not fit on the terminal is left out.
    pub(super) fn show(&mut self, text: &str) -> Result<(), Failure> {
        let first = std::mem::replace(&mut self.first, false);
        let Some(terminal) = &self.terminal else {
            return print(&format!("{}{text}", if first { "" } else { "---\n" }));
        };
        let height = usize::from(terminal.size().0).max(2);
        let lines: Vec<&str> = text.lines().take(height - 1).collect();
        // Not through the stream that takes colours out where nobody wants any.
        print_bytes(b"\x1b[H\x1b[2J")?;
        print(&format!("{}\n", lines.join("\n")))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.terminal.is_some() {
            let _gone = write_all(io::stdout(), "\x1b[?25h\x1b[?7h\x1b[?1049l");
        }
    }
}

/// Writes a value of a stream to stdout: a line.
pub(super) fn print_line(value: &Value) -> Result<(), Failure> {
    print_bytes(format!("{value}\n").as_bytes())
}

/// Set by `--quiet`.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Leaves out from now on what [`inform`] is told.
pub(super) fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// True if only warnings and errors are asked for.
pub(super) fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Writes a line to stderr that is good to know, and no more.
pub(super) fn inform(text: &str) {
    if !is_quiet() {
        note(text);
    }
}

/// Writes a line for people to stderr. If that is gone there is nobody to tell.
pub(super) fn note(text: &str) {
    let _nobody_to_tell = write_all(anstream::stderr(), &format!("{text}\n"));
}

/// Writes a text as it is to stderr.
pub(super) fn note_raw(text: &str) {
    let _nobody_to_tell = write_all(anstream::stderr(), text);
}

/// Asks a question that only `yes` (or `y`) confirms.
pub(super) fn confirm(question: &str) -> bool {
    note_raw(&format!("{question} [y/N] "));
    let mut answer = String::new();
    match io::stdin().read_line(&mut answer) {
        Ok(0) => note(""),
        Ok(_) => return matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"),
        Err(_) => {}
    }
    false
}

/// True if a question can be asked.
pub(super) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

fn write_all(mut stream: impl Write, text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes())?;
    stream.flush()
}

fn finish(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(
            ExitCode::Error,
            format!("write the result: {error}"),
        )),
        _ => Ok(()),
    }
}
