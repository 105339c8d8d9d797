//! Comparing with files that `UPDATE_GOLDEN=1` rewrites.

use std::fs;
use std::path::Path;

/// Compares a text with a file, or writes the file.
pub(crate) fn compare(file: &Path, actual: &str) -> Result<(), String> {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(file, actual).unwrap();
        return Ok(());
    }
    let expected = fs::read_to_string(file).unwrap_or_default();
    if expected == actual {
        return Ok(());
    }
    Err(format!(
        "{} differs\n--- expected\n{expected}--- actual\n{actual}",
        file.display()
    ))
}

/// Runs all cases and fails with all that is wrong.
pub(crate) fn all(results: impl Iterator<Item = Result<(), String>>) {
    let failures: Vec<String> = results.filter_map(Result::err).collect();
    assert!(
        failures.is_empty(),
        "{}\nUPDATE_GOLDEN=1 rewrites what is right",
        failures.join("\n")
    );
}
