//! `tributary`: telemetry, one command, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    node::telemetry::init();
    node::command::main()
}
