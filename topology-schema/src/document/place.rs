//! Places in a text, and problems that end its reading there.

use granit_parser::{Marker, Span};

use super::MAX_DEPTH;
use crate::diagnostic::{Diagnostic, Location};
use crate::path::Path;

pub(super) fn syntax_error(error: &granit_parser::ScanError) -> Diagnostic {
    use granit_parser::ErrorKind;
    let diagnostic = match error.kind() {
        ErrorKind::RecursionLimitExceeded => too_deep(),
        _ => Diagnostic::error(
            "syntax",
            &Path::root(),
            format!("this is no YAML: {}", error.info()),
        ),
    };
    diagnostic.at(Some(place(*error.marker())))
}

pub(super) fn too_deep() -> Diagnostic {
    Diagnostic::error(
        "too-deep",
        &Path::root(),
        format!("lists and mappings are nested deeper than {MAX_DEPTH} levels"),
    )
}

pub(super) fn fatal(code: &'static str, span: Span, message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(code, &Path::root(), message).at(Some(location(span)))
}

pub(super) fn location(span: Span) -> Location {
    let length = if span.end.line() == span.start.line() {
        span.end.index().saturating_sub(span.start.index())
    } else {
        1
    };
    Location {
        length: narrow(length).max(1),
        ..place(span.start)
    }
}

fn place(marker: Marker) -> Location {
    Location {
        line: narrow(marker.line()),
        column: narrow(marker.col() + 1),
        length: 1,
    }
}

pub(super) fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
