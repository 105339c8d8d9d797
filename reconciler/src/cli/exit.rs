//! How a command ends: one value decides the exit code and the text.

use std::fmt;

use crate::kernel;

/// The exit codes of `pcn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExitCode {
    /// Done, or no difference.
    Done = 0,
    /// Something went wrong, and nothing below says it better.
    Error = 1,
    /// There are differences.
    Differences = 2,
    /// Applied, but the kernel shows something else.
    NotVerified = 3,
    /// Failed, and what was there is back.
    RolledBack = 4,
    /// Failed, and what was there is not back.
    Stuck = 5,
    /// Wrong usage.
    Usage = 64,
    /// The file is invalid.
    InvalidFile = 65,
    /// The kernel lacks a feature.
    Unsupported = 69,
    /// Another writer holds the lock.
    Busy = 75,
    /// Not permitted.
    NotPermitted = 77,
    /// The saved plan does not fit what runs any more.
    Stale = 78,
}

impl ExitCode {
    /// All codes, in their order.
    pub const ALL: [Self; 12] = [
        Self::Done,
        Self::Error,
        Self::Differences,
        Self::NotVerified,
        Self::RolledBack,
        Self::Stuck,
        Self::Usage,
        Self::InvalidFile,
        Self::Unsupported,
        Self::Busy,
        Self::NotPermitted,
        Self::Stale,
    ];

    /// The number.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// What it means, for the manual.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done, or no difference",
            Self::Error => "error",
            Self::Differences => "differences (`plan --detailed-exitcode`, `diff`)",
            Self::NotVerified => "applied but not verified",
            Self::RolledBack => "failed and rolled back",
            Self::Stuck => "failed and rollback failed",
            Self::Usage => "usage",
            Self::InvalidFile => "invalid file",
            Self::Unsupported => "kernel lacks a feature",
            Self::Busy => "another writer holds the lock",
            Self::NotPermitted => "not permitted",
            Self::Stale => "saved plan is stale",
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        code.number().into()
    }
}

/// A command that could not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: ExitCode,
    /// What happened and what to do, without a final newline. Empty if all is said already.
    pub message: String,
}

impl Failure {
    /// A failure with a message.
    pub fn new(code: ExitCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// An error of which people were told already.
    pub const fn silent(code: ExitCode) -> Self {
        Self {
            code,
            message: String::new(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<kernel::Error> for Failure {
    fn from(error: kernel::Error) -> Self {
        let code = match &error {
            kernel::Error::Permission(_) => ExitCode::NotPermitted,
            kernel::Error::Unsupported(_) => ExitCode::Unsupported,
            kernel::Error::Call(_)
            | kernel::Error::Verifier { .. }
            | kernel::Error::Newer { .. }
            | kernel::Error::Foreign(_)
            | kernel::Error::Interrupted
            | kernel::Error::Panic(_) => ExitCode::Error,
        };
        Self::new(code, error.in_full())
    }
}

/// What a command comes to.
pub type CommandResult = Result<ExitCode, Failure>;
