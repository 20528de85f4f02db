//! How a daemon begins and ends: its log, its signals, its files. Never kills what it did not start.

use std::{
    future::Future,
    io::{self, IsTerminal, Read, Write},
    path::Path,
    process::ExitCode,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing_subscriber::EnvFilter;

/// What is logged unless `MUSTER_LOG` says otherwise.
const LOG_DEFAULT: &str = "info,async_nats=warn,quinn=warn,wasmtime=warn,cranelift=warn";

/// The exit code of a daemon that could not begin: of what it was given, something must change.
const NOT_BEGUN: u8 = 2;

/// Runs a daemon until it ends or is told to: by SIGTERM, Ctrl-C, or the end of standard input
/// where `until_stdin_closes`. A daemon fails only at its start, on what it was given: exit code 2.
pub fn run<F, R>(name: &str, until_stdin_closes: bool, daemon: F) -> ExitCode
where
    F: FnOnce(watch::Receiver<bool>) -> R,
    R: Future<Output = anyhow::Result<()>>,
{
    log();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "{name} cannot start its threads");
            return ExitCode::FAILURE;
        }
    };
    let (stop, stopped) = watch::channel(false);
    if until_stdin_closes {
        let stop = stop.clone();
        std::thread::spawn(move || {
            // Reading to the end; what comes is of no interest.
            let _ = io::copy(&mut io::stdin().lock().take(u64::MAX), &mut io::sink());
            stop.send_replace(true);
        });
    }
    let result = runtime.block_on(async {
        tokio::spawn(signals(stop));
        daemon(stopped).await
    });
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {name} cannot begin: {error:#}");
            ExitCode::from(NOT_BEGUN)
        }
    }
}

fn log() {
    let filter =
        EnvFilter::try_from_env("MUSTER_LOG").unwrap_or_else(|_| EnvFilter::new(LOG_DEFAULT));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .try_init();
}

async fn signals(stop: watch::Sender<bool>) {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.send_replace(true);
}

/// 64 random bits of the operating system, for names that nobody else may have.
pub fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Writes a small file so that a reader sees all of it or nothing.
pub fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", std::process::id()));
    let mut file = std::fs::File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&draft, path)
}
