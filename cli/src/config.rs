//! `muster config`: what a master or a worker is told by its command line, its environment and its file. Never starts
//! one, and never shows a password or a token.

use crate::output::{self, Cell, Format};
use clap::{Args, Subcommand, ValueEnum};
use muster_wire::{
    config_file::{self, Explained, Source},
    nats::Address,
};
use serde_json::json;
use std::ffi::OsString;

/// What to do with a configuration.
#[derive(Subcommand)]
pub enum Command {
    /// Check the options of a daemon and its file, without starting it
    #[command(after_help = "Examples:
  muster config check worker --config /etc/muster/worker.toml
  muster config check master --config /etc/muster/master.toml")]
    Check(Daemon),
    /// Show each option of a daemon, its value, and where the value is from
    #[command(after_help = "Examples:
  muster config show worker --config /etc/muster/worker.toml
  MUSTER_FLEET=edge muster config show worker --config /etc/muster/worker.toml --slots 2")]
    Show(Daemon),
}

/// A daemon as it would be started.
#[derive(Args)]
pub struct Daemon {
    /// Which daemon
    daemon: Which,
    /// Its options, as on its command line
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<OsString>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    /// `muster master`
    Master,
    /// `muster worker`
    Worker,
}

/// Carries it out. What is wrong ends the command with exit code 2.
pub fn run(command: Command, format: Format) -> anyhow::Result<()> {
    let (Command::Check(daemon) | Command::Show(daemon)) = &command;
    let explained = daemon.explained().unwrap_or_else(|error| error.exit());
    match command {
        Command::Show(_) => show(&explained, format),
        Command::Check(_) => {
            let set = explained.iter().filter(|option| option.source == Source::File).count();
            match format {
                Format::Json => output::json(&json!({ "valid": true, "from_file": set })),
                Format::Table => output::line(&format!("valid; {set} options are from the file")),
            }
        }
    }
}

impl Daemon {
    fn explained(&self) -> Result<Vec<Explained>, clap::Error> {
        let (name, command) = match self.daemon {
            Which::Master => {
                let command = clap::Command::new("muster master");
                ("muster master", muster_master::Config::augment_args(command))
            }
            Which::Worker => {
                let command = clap::Command::new("muster worker");
                ("muster worker", muster_worker::Config::augment_args(command))
            }
        };
        let args = [OsString::from(name)].into_iter().chain(self.options.iter().cloned());
        config_file::explain(command, args.collect())
    }
}

fn show(explained: &[Explained], format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        let row = |option: &Explained| {
            let values: Vec<String> =
                option.values.iter().map(|text| shown(option, text)).collect();
            json!({ "option": option.name, "values": values, "from": word(option.source) })
        };
        return output::json(&explained.iter().map(row).collect::<Vec<_>>());
    }
    let row = |option: &Explained| {
        let values: Vec<String> = option.values.iter().map(|text| shown(option, text)).collect();
        [option.name.clone(), word(option.source).into(), values.join(" ")].map(Cell::new).into()
    };
    output::table(&["option", "from", "value"], &[], explained.iter().map(row).collect())
}

fn word(source: Source) -> &'static str {
    match source {
        Source::Nothing => "-",
        Source::Default => "default",
        Source::File => "file",
        Source::Environment => "environment",
        Source::CommandLine => "command line",
    }
}

/// A value without what nobody may see.
fn shown(option: &Explained, text: &str) -> String {
    match option.is_secret {
        false => text.into(),
        // It names a file.
        true if text.starts_with('@') => text.into(),
        true if option.name == "nats" => {
            text.parse::<Address>().map_or("(not valid)".into(), |address| address.to_string())
        }
        true => "(hidden)".into(),
    }
}
