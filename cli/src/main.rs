//! `cutover`: the command line. All of it is in the library, where tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    cutover_cli::main()
}
