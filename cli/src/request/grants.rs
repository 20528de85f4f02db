//! The requested grants of a task, from the command line. Never grants anything: the worker's policy
//! does, or refuses.

use crate::{exit::Failure, quantity};
use clap::Args;
use muster_protocol::grant::{Grants, HttpRule};
use std::{env, time::Duration};

/// Grants of a task; without any of them it has none.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Grants")]
pub struct Asked {
    /// An environment variable; without a value, its value in this process is used (repeatable)
    #[arg(long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// A secret of the worker, which the task gets as a variable of this name (repeatable)
    #[arg(long = "secret", value_name = "NAME")]
    secrets: Vec<String>,
    /// A host to which it may send HTTP requests: a name, *.DOMAIN, an address or a network. The
    /// ports are 80 and 443, unless one is given; * is any port (repeatable)
    #[arg(long, value_name = "HOST[:PORT]")]
    allow_http: Vec<HttpRule>,
    /// A directory of this size, which is empty at first and removed afterwards
    #[arg(long, value_name = "SIZE", value_parser = quantity::size)]
    dir: Option<u64>,
    /// The resolution of its clocks [default: 1ms]
    #[arg(long, value_name = "TIME", value_parser = quantity::duration)]
    clock: Option<Duration>,
    /// Real random numbers; without this they are the same in each attempt, and not secret
    #[arg(long)]
    random: bool,
}

impl Asked {
    /// The grants themselves. A variable that is asked for twice, or that is not set here, is the
    /// user's error.
    pub fn grants(&self) -> anyhow::Result<Grants> {
        let mut grants = Grants {
            secrets: self.secrets.iter().cloned().collect(),
            http: self.allow_http.iter().cloned().collect(),
            dir_bytes: self.dir.unwrap_or(0),
            random: self.random,
            ..Grants::default()
        };
        if let Some(clock) = self.clock {
            grants.clock_ns = u64::try_from(clock.as_nanos()).unwrap_or(u64::MAX);
        }
        for text in &self.env {
            let (name, value) = variable(text)?;
            if grants.env.get(&name).is_some_and(|old| *old != value) {
                let text = format!("--env {name} is given twice, with different values");
                return Err(Failure::user(text).into());
            }
            grants.env.insert(name, value);
        }
        Ok(grants)
    }
}

/// `NAME=VALUE`, or `NAME` with the value that it has in this process.
fn variable(text: &str) -> anyhow::Result<(String, String)> {
    if let Some((name, value)) = text.split_once('=') {
        return Ok((name.into(), value.into()));
    }
    match env::var(text) {
        Ok(value) => Ok((text.into(), value)),
        Err(env::VarError::NotPresent) => {
            let failure = Failure::user(format!("--env {text}: there is no such variable here"));
            Err(failure.hint(format!("give it a value: --env {text}=VALUE")).into())
        }
        Err(env::VarError::NotUnicode(_)) => {
            let failure = Failure::user(format!("--env {text}: its value here is not UTF-8"));
            Err(failure.hint("give the task such bytes as input: --input @FILE").into())
        }
    }
}
