//! `muster-master`: the same daemon as `muster master`, as an executable of its own.

use clap::Parser;
use muster_wire::config_file;
use std::process::ExitCode;

#[derive(Parser)]
#[command(version, about)]
struct Args {
    #[command(flatten)]
    config: muster_master::Config,
}

fn main() -> ExitCode {
    muster_master::main(config_file::parse::<Args>().config)
}
