//! What serde's generated code complains about, in the words of a topology's author.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use crate::cube::CubeKind;
use crate::diagnostic::Diagnostic;
use crate::document::NodeId;
use crate::path::Path;
use crate::suggest;
use crate::text::{ValueCode, ValueError, quote};

/// A problem and the road to it.
#[derive(Debug)]
pub(super) struct DecodeError {
    pub(super) problem: Problem,
    /// Collection and position of each step, from the inside out.
    pub(super) trail: Vec<(NodeId, usize)>,
    /// The problem is the key of the innermost step, not its value.
    pub(super) at_key: bool,
}

#[derive(Debug)]
pub(super) enum Problem {
    Value(ValueError),
    WrongType {
        found: String,
        expected: String,
        help: Option<String>,
    },
    UnknownField {
        field: String,
        expected: &'static [&'static str],
    },
    UnknownVariant {
        variant: String,
        expected: &'static [&'static str],
    },
    MissingField(&'static str),
    /// A list with too few or too many items.
    WrongLength {
        expected: String,
        found: usize,
    },
    /// A mapping that must have exactly one key.
    NotOneKey {
        expected: String,
        found: usize,
    },
}

impl DecodeError {
    pub(super) fn new(problem: Problem) -> Self {
        Self {
            problem,
            trail: Vec::new(),
            at_key: false,
        }
    }

    pub(super) fn within(mut self, parent: NodeId, position: usize) -> Self {
        self.trail.push((parent, position));
        self
    }

    pub(super) fn at_key(mut self) -> Self {
        self.at_key = true;
        self
    }
}

impl Problem {
    /// Whether it may be nothing but the consequence of something that was left out.
    pub(super) fn is_absence(&self) -> bool {
        match self {
            Self::MissingField(_) | Self::WrongLength { .. } | Self::NotOneKey { .. } => true,
            Self::Value(error) => {
                matches!(error.code, ValueCode::EmptyList | ValueCode::MissingField)
            }
            Self::WrongType { .. } | Self::UnknownField { .. } | Self::UnknownVariant { .. } => {
                false
            }
        }
    }

    /// Whether the value shows the problem better than its key.
    pub(super) fn is_about_value(&self) -> bool {
        match self {
            Self::WrongType { .. } | Self::WrongLength { .. } | Self::Value(_) => true,
            Self::MissingField(_) | Self::NotOneKey { .. } => false,
            Self::UnknownField { .. } | Self::UnknownVariant { .. } => false,
        }
    }

    pub(super) fn describe(&self, path: &Path, is_present: &dyn Fn(&str) -> bool) -> Diagnostic {
        match self {
            Self::Value(ValueError {
                code,
                message,
                help,
            }) => Diagnostic::error(code.as_str(), path, message.clone()).maybe_help(help.clone()),
            Self::WrongType {
                found,
                expected,
                help,
            } => Diagnostic::error(
                "wrong-type",
                path,
                format!("expected {expected}, found {found}"),
            )
            .maybe_help(help.clone()),
            Self::UnknownField { field, expected } => {
                unknown_field(field, expected, is_present, path)
            }
            Self::UnknownVariant { variant, expected } => unknown_variant(variant, expected, path),
            Self::MissingField(field) => {
                Diagnostic::error("missing-field", path, format!("`{field}` is missing"))
            }
            Self::WrongLength { expected, found } => Diagnostic::error(
                "wrong-type",
                path,
                format!("expected {expected}, found a list of {found}"),
            ),
            Self::NotOneKey { expected, found } => {
                let found = match found {
                    0 => "an empty mapping".to_owned(),
                    more => format!("a mapping with {more} keys"),
                };
                Diagnostic::error(
                    "wrong-type",
                    path,
                    format!("expected {expected}, found {found}"),
                )
            }
        }
    }
}

pub(crate) fn unknown_field(
    field: &str,
    expected: &[&str],
    is_present: &dyn Fn(&str) -> bool,
    path: &Path,
) -> Diagnostic {
    let diagnostic = Diagnostic::error(
        "unknown-field",
        path,
        format!("there is no field {} here", quote(field)),
    );
    // What is there already is not what was meant.
    let absent = expected.iter().copied().filter(|name| !is_present(name));
    diagnostic.help(match suggest::closest(field, absent) {
        Some(near) => format!(
            "did you mean `{near}`? The fields are {}",
            suggest::list(expected.iter().copied())
        ),
        None if expected.is_empty() => "nothing can be set here".to_owned(),
        None => format!("the fields are {}", suggest::list(expected.iter().copied())),
    })
}

fn unknown_variant(variant: &str, expected: &[&str], path: &Path) -> Diagnostic {
    let quoted = quote(variant);
    let diagnostic = if CubeKind::ALL.map(CubeKind::name) == *expected {
        Diagnostic::error(
            "unknown-kind",
            path,
            format!("there is no kind of cube {quoted}"),
        )
    } else {
        Diagnostic::error("unknown-value", path, format!("{quoted} is not known here"))
    };
    let known = suggest::list(expected.iter().copied());
    diagnostic.help(
        match (
            suggest::closest(variant, expected.iter().copied()),
            expected,
        ) {
            (_, [only]) => format!("write `{only}`"),
            (Some(near), _) => format!("did you mean `{near}`? Known are {known}"),
            (None, _) => format!("known are {known}"),
        },
    )
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem.describe(&Path::root(), &|_| false).message)
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let text = format!("{message:#}");
        let error = ValueError::from_alternate(&text);
        Self::new(Problem::Value(
            error.unwrap_or_else(|| ValueError::new(ValueCode::WrongType, text)),
        ))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = friendly(&expected.to_string());
        let help = match found {
            Unexpected::Bool(value) if expected.contains('`') => Some(format!(
                "if it is meant as text, put it in quotes: \"{value}\""
            )),
            Unexpected::Unit if expected.starts_with("a mapping") => {
                Some("write `{}` to set nothing".to_owned())
            }
            Unexpected::Unit if expected == "a list" => {
                Some("write `[]` for an empty list".to_owned())
            }
            Unexpected::Str("yes" | "no" | "on" | "off" | "y" | "n")
                if expected == "true or false" =>
            {
                Some("write `true` or `false`".to_owned())
            }
            _ => None,
        };
        Self::new(Problem::WrongType {
            found: describe_found(found),
            expected,
            help,
        })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn invalid_length(found: usize, expected: &dyn Expected) -> Self {
        Self::new(Problem::WrongLength {
            expected: friendly(&expected.to_string()),
            found,
        })
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Problem::UnknownVariant {
            variant: variant.to_owned(),
            expected,
        })
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Problem::UnknownField {
            field: field.to_owned(),
            expected,
        })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Problem::MissingField(field))
    }
}

/// What serde's own types say they expect, without the words of Rust.
fn friendly(expected: &str) -> String {
    match expected {
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a mapping",
        "a string" => "text",
        other => other.strip_suffix(" with 2 elements").unwrap_or(other),
    }
    .to_owned()
}

fn describe_found(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(number) => format!("the number {number}"),
        Unexpected::Signed(number) => format!("the number {number}"),
        Unexpected::Float(number) => format!("the number {number}"),
        Unexpected::Str(text) => format!("the text {}", quote(text)),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map | Unexpected::StructVariant => "a mapping".to_owned(),
        Unexpected::UnitVariant => "a single word".to_owned(),
        Unexpected::NewtypeVariant | Unexpected::TupleVariant | Unexpected::Enum => {
            "a mapping".to_owned()
        }
        Unexpected::Char(_)
        | Unexpected::Bytes(_)
        | Unexpected::NewtypeStruct
        | Unexpected::Other(_) => "something else".to_owned(),
    }
}
