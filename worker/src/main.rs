//! `muster-worker` alone: the same daemon as `muster worker`, for hosts that need nothing else.

use clap::Parser;
use muster_wire::config_file;
use std::process::ExitCode;

#[derive(Parser)]
#[command(version, about)]
struct Args {
    /// The first word of `muster worker`, whose supervisor may start this program in its place
    #[arg(hide = true, value_parser = ["worker"])]
    word: Option<String>,
    #[command(flatten)]
    config: muster_worker::Config,
}

fn main() -> ExitCode {
    if let Some(ended) = muster_worker::compile_child::child() {
        return ended;
    }
    muster_worker::main(config_file::parse::<Args>().config)
}
