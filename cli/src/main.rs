//! `muster`: the one command of a fleet, for people and for scripts. Never does more than parse the
//! command line: each subcommand has a file of its own.

// The print macros panic when nobody reads the output. Use `terminal` instead.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod accounts;
mod audit;
mod blob;
mod build;
mod cert;
mod check;
mod client;
mod completions;
mod config;
mod daemon;
mod debug;
mod dev;
mod entitlement;
mod events;
mod exit;
mod group;
mod ids;
mod init;
mod language;
mod map;
mod module;
mod nats;
mod new;
mod output;
mod parent_death;
mod quantity;
mod request;
mod secret;
mod stream_reader;
mod submit;
mod task;
mod terminal;
mod top;
mod trace;
mod user;
mod worker;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use client::ConnectArgs;
use output::Format;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};
use tokio::runtime::Runtime;

/// Every task is some hundred small allocations, made on one thread and freed on another: with the
/// system's allocator they were a quarter of a busy master's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Run WebAssembly tasks on a fleet of edge workers.
#[derive(Parser)]
#[command(
    name = "muster",
    version,
    after_help = "Examples:
  muster dev                                     a fleet on this machine
  muster new hello && cd hello && muster build
  muster module push hello.wasm
  muster task run hello --input world --wait
  muster map hello names.txt > results.jsonl
  muster events --follow
  muster top
  muster check"
)]
struct Cli {
    #[command(flatten)]
    connect: ConnectArgs,
    /// The format of the output
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t, global = true, help_heading = client::HEADING)]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a whole fleet on this machine: nats-server, a master and workers
    Dev(dev::Dev),
    /// Prepare a fleet: its authority, its first master and its NATS. Prints what to do next
    Init(init::Init),
    /// Run a master
    Master(Box<muster_master::Config>),
    /// Run a worker, or show and control workers
    Worker(worker::Command),
    /// Make a project for a task, in one of five languages
    New(new::New),
    /// Build the task of a project
    Build(build::Build),
    /// Store, list and inspect Wasm modules
    #[command(subcommand)]
    Module(module::Command),
    /// Submit tasks and show their states and results
    #[command(subcommand)]
    Task(task::Command),
    /// Run a module on every line of a file
    Map(Box<map::Map>),
    /// Keep secrets for workers in the registry, encrypted to the key of each
    #[command(subcommand)]
    Secret(secret::Command),
    /// Say who may do what in which group
    #[command(subcommand)]
    User(user::Command),
    /// Say which modules may run in a group
    #[command(subcommand)]
    Group(group::Command),
    /// Show who has asked for what, and check that nothing was changed afterwards
    #[command(subcommand)]
    Audit(audit::Command),
    /// Show what happened in the fleet
    Events(events::Events),
    /// Watch workers, tasks, groups and events on the whole terminal, and act on them
    Top(top::Top),
    Check(check::Check),
    /// Collect what explains a problem
    #[command(subcommand)]
    Debug(debug::Command),
    /// Check or show the configuration of a master or a worker
    #[command(subcommand)]
    Config(config::Command),
    /// Make the certificates with which masters and workers authenticate each other
    #[command(subcommand)]
    Cert(cert::Command),
    /// Write the configuration of nats-server, with an account for the registry and one for clients
    #[command(subcommand)]
    Nats(nats::Command),
    /// Print shell completions: source <(muster completions bash)
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one for each command, into a directory
    Man {
        /// The directory
        dir: PathBuf,
    },
    #[command(hide = true)]
    Tether(parent_death::Tether),
}

fn main() -> ExitCode {
    // `muster worker` starts this executable again as a child that compiles a module.
    if let Some(ended) = muster_worker::compile_child::child() {
        return ended;
    }
    let Cli { connect, output, command } = muster_wire::config_file::parse();
    match command {
        Command::Master(config) => daemon::master(*config),
        Command::Worker(worker::Command::Run(config)) => daemon::worker(*config),
        command => ask(command, &connect, output).unwrap_or_else(|error| exit::report(&error)),
    }
}

fn ask(command: Command, connect: &ConnectArgs, format: Format) -> anyhow::Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    match command {
        Command::Master(_) | Command::Worker(worker::Command::Run(_)) => {
            unreachable!("the daemons have their own way out of main")
        }
        Command::Tether(tether) => tether.run().map(|never| match never {}),
        Command::Cert(command) => cert::run(command, &connect.fleet).map(done),
        Command::Init(init) => init.run(&connect.fleet, format).map(done),
        Command::Nats(command) => nats::run(command, &connect.fleet).map(done),
        Command::New(new) => new.run(format).map(done),
        Command::Build(build) => build.run(format).map(done),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "muster", &mut text);
            output::raw(&text).map(done)
        }
        Command::Man { dir } => man(&dir).map(done),
        Command::Dev(dev) => run(dev.run(&connect.fleet, format)),
        Command::Worker(worker::Command::Ask(ask)) => {
            wait_for(worker::run(ask, connect, format)).map(done)
        }
        Command::Module(command) => wait_for(module::run(command, connect, format)).map(done),
        Command::Task(command) => wait_for(task::run(command, connect, format)),
        Command::Secret(command) => wait_for(secret::run(command, connect, format)).map(done),
        Command::User(command) => wait_for(user::run(command, connect, format)).map(done),
        Command::Group(command) => wait_for(group::run(command, connect, format)).map(done),
        Command::Audit(command) => wait_for(audit::run(command, connect, format)).map(done),
        Command::Map(map) => wait_for(map.run(connect)),
        Command::Config(command) => config::run(command, format).map(done),
        Command::Debug(command) => wait_for(debug::run(command, connect, format)).map(done),
        Command::Events(events) => wait_for(events.run(connect, format)).map(done),
        Command::Top(top) => wait_for(top.run(connect, format)).map(done),
        // Does not end at a refusal of the server: the check reports it as a finding.
        Command::Check(check) => run(check::run(check, connect, format)),
    }
}

/// Writes the manual pages.
fn man(dir: &Path) -> anyhow::Result<()> {
    let unwritable = || format!("the manual pages cannot be written into {}", dir.display());
    std::fs::create_dir_all(dir).with_context(unwritable)?;
    clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), dir)
        .with_context(unwritable)
}

/// Runs a command that its server may refuse: then it ends, for nothing would answer it.
fn wait_for<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    run(async {
        tokio::select! {
            biased;
            result = work => result,
            refused = client::refused() => Err(refused.into()),
        }
    })
}

/// One thread is enough for a client, and `muster dev` must start its children from the main one.
fn run<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime: Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(work);
    // Do not wait for a read of standard input whose result nobody needs any more.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// The daemons declare `--nats` and `--fleet` themselves: under other types than the client's,
    /// `muster --fleet x master` would panic.
    #[test]
    fn daemons_share_the_global_options() {
        let mut command = Cli::command();
        command.build();
        for daemon in ["master", "worker"] {
            let sub = command.find_subcommand(daemon).expect("declared");
            for id in ["nats", "fleet"] {
                let kind = |command: &clap::Command| {
                    let arg = command.get_arguments().find(|arg| arg.get_id() == id);
                    arg.map(|arg| arg.get_value_parser().type_id())
                };
                assert_eq!(kind(sub), kind(&command), "{daemon} --{id}");
            }
        }
    }

    #[test]
    fn global_options_stand_anywhere() {
        for line in [
            "muster --fleet f --nats nats://h -o json worker ls",
            "muster worker ls --fleet f --nats nats://h -o json",
            "muster --fleet f task --nats nats://h ls -o json",
        ] {
            let cli = parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!((cli.connect.fleet.as_str(), cli.output), ("f", Format::Json), "{line}");
        }
    }

    #[test]
    fn worker_is_a_daemon_or_a_question() {
        let question = parse("muster worker get w1").expect("well-formed");
        assert!(matches!(question.command, Command::Worker(worker::Command::Ask(_))));
        let missing = parse("muster worker").err().expect("a worker needs its options");
        assert_eq!(missing.exit_code(), i32::from(exit::USER));
    }

    #[test]
    fn the_daemons_take_what_dev_gives_them() {
        let files = "--ca a --cert b --key c --ready-file d --until-stdin-closes";
        let master = format!(
            "muster master --name m1 --fleet f --nats nats://h --listen 127.0.0.1:0 {files}"
        );
        let worker = format!(
            "muster worker --name w1 --fleet f --nats nats://h --master 127.0.0.1:1 \
             --group g --slots 2 --state-dir s {files}"
        );
        for line in [master, worker] {
            assert!(parse(&line).is_ok(), "{line}");
        }
    }
}
