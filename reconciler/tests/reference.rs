//! The definition of the command line, and the reference made from it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/golden.rs"]
mod golden;

use std::path::Path;

use reconciler::cli::ExitCode;

#[test]
fn the_definition_is_sound() {
    reconciler::cli::command().debug_assert();
}

/// Every flag has its variable.
#[test]
fn every_flag_can_come_from_the_environment() {
    let command = reconciler::cli::command();
    let below = command
        .get_subcommands()
        .flat_map(clap::Command::get_subcommands);
    for command in command.get_subcommands().chain(below) {
        for argument in command
            .get_arguments()
            .filter(|argument| !argument.is_positional())
        {
            let long = argument.get_long().unwrap();
            let variable = format!("PCN_{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(
                argument.get_env().and_then(|name| name.to_str()),
                Some(variable.as_str()),
                "--{long}"
            );
        }
    }
}

/// `docs/reference/cli.md` is made from the definition of the command line.
#[test]
fn the_reference_is_fresh() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/cli.md");
    golden::all(std::iter::once(golden::compare(&file, &reference())));
}

fn reference() -> String {
    let mut command = reconciler::cli::command();
    command.build();
    let mut text = "# Command line\n\nMade from `pcn --help`: `UPDATE_GOLDEN=1 cargo test -p reconciler --test reference` writes it anew.\n\n".to_owned();
    text.push_str(&format!(
        "{}. {}\n\n## Exit codes\n\n",
        about(&command),
        command.get_after_help().unwrap()
    ));
    text.push_str("| code | means |\n| --- | --- |\n");
    for code in ExitCode::ALL {
        text.push_str(&format!("| {} | {} |\n", code.number(), code.meaning()));
    }
    text.push_str("\n## All commands\n\n");
    flags(&mut text, command.get_arguments());
    for sub in subcommands(&command) {
        section(&mut text, sub, sub.get_name());
        for below in subcommands(sub) {
            let name = format!("{} {}", sub.get_name(), below.get_name());
            section(&mut text, below, &name);
        }
    }
    text
}

fn subcommands(command: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help" && !sub.is_hide_set())
}

fn section(text: &mut String, command: &clap::Command, name: &str) {
    text.push_str(&format!("\n## `pcn {name}`\n\n{}.\n\n", about(command)));
    let usage = command.clone().render_usage().to_string();
    let lines: Vec<&str> = usage
        .trim_start_matches("Usage: ")
        .lines()
        .map(str::trim)
        .collect();
    text.push_str(&format!("```text\n{}\n```\n", lines.join("\n").trim()));
    let own: Vec<_> = command
        .get_arguments()
        .filter(|argument| !argument.is_global_set())
        .collect();
    if own.iter().any(|argument| argument.get_id() != "help") {
        text.push('\n');
        flags(text, own.into_iter());
    }
}

fn about(command: &clap::Command) -> String {
    command.get_about().unwrap().to_string()
}

fn flags<'a>(text: &mut String, arguments: impl Iterator<Item = &'a clap::Arg>) {
    text.push_str("| argument | variable | does |\n| --- | --- | --- |\n");
    for argument in
        arguments.filter(|argument| !matches!(argument.get_id().as_str(), "help" | "version"))
    {
        let takes = argument.get_action().takes_values();
        let value = argument
            .get_value_names()
            .filter(|_| takes)
            .map(|names| format!(" <{}>", names[0]))
            .unwrap_or_default();
        let name = match (argument.get_short(), argument.get_long()) {
            (Some(short), Some(long)) => format!("-{short}, --{long}{value}"),
            (None, Some(long)) => format!("--{long}{value}"),
            _ => value.trim().to_owned(),
        };
        let variable = argument
            .get_env()
            .map(|name| format!("`{}`", name.to_string_lossy()))
            .unwrap_or_default();
        let mut help = argument
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        if takes {
            let values: Vec<_> = argument
                .get_possible_values()
                .iter()
                .map(|value| format!("`{}`", value.get_name()))
                .collect();
            if !values.is_empty() {
                help.push_str(&format!(": {}", values.join(", ")));
            }
            let default: Vec<_> = argument
                .get_default_values()
                .iter()
                .map(|value| value.to_string_lossy())
                .collect();
            if !default.is_empty() {
                help.push_str(&format!(" (default `{}`)", default.join(" ")));
            }
        }
        text.push_str(&format!(
            "| `{name}` | {variable} | {} |\n",
            help.replace('|', "\\|")
        ));
    }
}

/// `docs/reference/metrics.md` is made from the catalogue of metrics.
#[test]
fn the_reference_of_metrics_is_fresh() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/metrics.md");
    golden::all(std::iter::once(golden::compare(&file, &metrics())));
}

fn metrics() -> String {
    let mut text = "# Metrics\n\n\
        Made from the code: `UPDATE_GOLDEN=1 cargo test -p reconciler --test reference` writes it anew.\n\n\
        `pcn metrics` prints them once; `pcn watch --metrics unix:/run/pcn/metrics.sock` (or `127.0.0.1:9464`) serves them \
        at `/metrics` as OpenMetrics 1.0. Only this machine is served: a Unix socket for root and its group, or a loopback \
        address. The kernel is read when somebody asks, so nothing is older than the answer; `pcn_reconcile*` and \
        `pcn_apply_rollbacks` count what the serving process did and are not in `pcn metrics`.\n\n\
        Counters start anew when a cube is removed and made again. Labels: `direction` is `rx` or `tx`, `path` is `ingress` or \
        `egress`, `attachment` is `cube:port` or an interface, `reason` as in `pcn show`.\n\n\
        | metric | type | labels | means |\n| --- | --- | --- | --- |\n"
        .to_owned();
    for family in reconciler::metrics::FAMILIES {
        let labels: Vec<_> = family
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        text.push_str(&format!(
            "| `{}` | {} | {} | {} |\n",
            family.sample(),
            format!("{:?}", family.kind).to_lowercase(),
            labels.join(", "),
            family.help
        ));
    }
    text
}
