//! `pcn validate`

use serde_json::Value;

use super::{
    CommandResult, ExitCode, FORMAT_VERSION, Failure, Format,
    files::{self, Checked, FileArgs},
    output,
};

/// Check files: syntax, types and all rules; needs no privilege and no kernel
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    files: FileArgs,
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t, env = "PCN_OUTPUT")]
    output: Format,
}

impl Args {
    pub(super) fn run(&self) -> CommandResult {
        let checked = files::check(&self.files.files)?;
        if self.output == Format::Json {
            let problems: Vec<Value> = checked.iter().flat_map(problems).collect();
            let valid = checked.iter().all(|file| file.result.is_ok());
            let document = serde_json::json!({
                "formatVersion": FORMAT_VERSION, "valid": valid, "diagnostics": problems,
            });
            output::print_json(&document)?;
        }
        let mut code = ExitCode::Done;
        for Checked { source, result } in &checked {
            let (valid, problems) = match result {
                Ok((_, warnings)) => (true, warnings),
                Err(problems) => (false, problems),
            };
            files::report(problems, source);
            if !valid {
                code = ExitCode::InvalidFile;
            } else if self.output == Format::Text {
                output::print(&format!("{}: valid\n", source.name))?;
            }
        }
        let valid = checked.iter().filter_map(|file| {
            let (topology, _) = file.result.as_ref().ok()?;
            Some((&topology.topology().metadata.name, &file.source))
        });
        match files::duplicate(valid) {
            Some(message) => Err(Failure::new(ExitCode::InvalidFile, message)),
            None => Ok(code),
        }
    }
}

fn problems(file: &Checked) -> Vec<Value> {
    let problems = match &file.result {
        Ok((_, warnings)) => warnings,
        Err(problems) => problems,
    };
    match problems.to_json(&file.source.name) {
        Value::Array(problems) => problems,
        _ => Vec::new(),
    }
}
