//! `muster tether`: replaces itself with a program that ends when its parent does. For programs that
//! would not notice the parent's end. Never used for Muster's own daemons, which do notice.

use anyhow::Context as _;
use clap::Args;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use std::{ffi::OsString, os::unix::process::CommandExt as _, process::Command};

/// What to become.
#[derive(Args)]
pub struct Tether {
    /// Whose end is to be shared
    parent: i32,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    program: Vec<OsString>,
}

impl Tether {
    /// Becomes the program; returns only when that fails.
    pub fn run(self) -> anyhow::Result<std::convert::Infallible> {
        // The kernel keeps this setting over `exec`. The signal comes when the thread that started this
        // process ends, which is the parent's main thread.
        set_parent_process_death_signal(Some(Signal::TERM))
            .context("cannot be tethered to the parent")?;
        let parent = getppid().map(|parent| parent.as_raw_nonzero().get());
        anyhow::ensure!(parent == Some(self.parent), "the parent has ended already");
        let (program, args) = self.program.split_first().context("a program is required")?;
        Err(Command::new(program).args(args).exec())
            .with_context(|| format!("cannot start {}", program.display()))
    }
}
