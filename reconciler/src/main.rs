//! The command `pcn`.

fn main() -> std::process::ExitCode {
    reconciler::cli::main()
}
