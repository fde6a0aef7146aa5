//! `dejavm-fuzz`: fuzzes unmodified Linux programs in dejavm sandboxes.
#![forbid(unsafe_code)]

mod campaign;
mod cli;
mod cores;

fn main() -> std::process::ExitCode {
    cli::main()
}
