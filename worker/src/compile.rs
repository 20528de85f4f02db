//! Compiles a module in a child process with a limit of time and of memory. Never compiles in this
//! process: a module that harms its compiler must not harm the worker.
//!
//! The child is this same executable; its first argument tells it to compile
//! ([`child()`](crate::compile_child::child)). It reads Wasm from its standard input and writes code, in the form of [`crate::engine::Program::code`], to
//! its standard output. For the makers of the runtime, a compiler that never ends is no vulnerability:
//! the process that starts it must stop it.

mod terms;
mod verdict;

pub(crate) use terms::{ARG, Terms};
pub(crate) use verdict::{MEMORY_OR_HOST, NO_MEMORY, NOT_BEGUN, REJECTED};

use crate::{policy::Rules, shortage};
use bytes::Bytes;
use muster_protocol::limit;
use std::{io, path::PathBuf, process::Stdio, sync::OnceLock, thread, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
    sync::oneshot,
};
use verdict::End;

/// The running executable: this very file, even if its name now leads to another one.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// The most code of one module, in bytes. Code is about three times as large as its module (wordcount:
/// 270 KB from 91 KB), so the largest module of that kind needs three quarters of this limit. The limit
/// is half of what all programs of a worker may take, so no program evicts all the others.
pub(crate) const CODE_MAX: u64 = 4 * limit::MODULE_SIZE_MAX;

/// The most that is read of the child's standard error, in bytes: a refusal is a sentence, a panic a
/// few lines.
const COMPLAINT_MAX: u64 = 4 * 1024;

/// Threads of one compilation. Each has a stack, and the allocator gives some of them an arena: with
/// more threads, a machine of many processors would exceed the limit of addresses.
const THREADS_MAX: usize = 8;

/// Arenas of the child's allocator; each takes 64 MiB of addresses.
const ARENAS_MAX: usize = 2;

/// See [`measure`].
static ADDRESSES: OnceLock<u64> = OnceLock::new();

/// Notes how many bytes of addresses this program takes before it has done anything. A confined worker's
/// child cannot read that of itself, and it is the same program.
pub(crate) fn measure() {
    if let Ok(addresses) = addresses() {
        let _ = ADDRESSES.set(addresses);
    }
}

/// Bytes of addresses that this process has mapped so far: mostly the program and its libraries.
pub(crate) fn addresses() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.strip_suffix("kB"));
    let kib: Option<u64> = size.and_then(|size| size.trim().parse().ok());
    Ok(kib.ok_or_else(|| io::Error::other("/proc/self/status has no VmSize"))? * 1024)
}

/// Why there is no code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The module cannot be compiled at all, or not within the limits of this worker.
    #[error("{0}")]
    Rejected(String),
    /// Nothing is known about the module: the child could not do its work, for a reason on its host.
    #[error("{0}")]
    NotTried(String),
    /// The child was killed, and not by this process. The kernel does that when the machine runs out of
    /// memory: because of the module, or because of anything else that runs there.
    #[error("{0}")]
    Killed(String),
}

/// Code that a child of this process has just compiled. Only [`Compiler::compile`] makes one.
pub struct Compiled {
    code: Vec<u8>,
}

impl Compiled {
    /// The code, in the form of [`crate::engine::Program::code`].
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.code
    }
}

/// Starts children that compile. Clones have the same settings.
#[derive(Clone, Debug)]
pub struct Compiler {
    program: PathBuf,
    within: Duration,
    memory: u64,
}

impl Compiler {
    /// A compiler that starts this executable, with the limits of the worker's policy.
    pub fn new(rules: &Rules) -> Self {
        Compiler::of(THIS_PROGRAM.into(), rules)
    }

    /// A compiler that starts another executable, which must call [`child()`](crate::compile_child::child) first.
    pub fn of(program: PathBuf, rules: &Rules) -> Self {
        Compiler { program, within: rules.compile_within, memory: rules.compile_memory }
    }

    /// Compiles a module in a child. `turn` is dropped when the child is gone. Dropping the future
    /// kills the child.
    pub async fn compile<T: Send + 'static>(
        &self,
        wasm: Bytes,
        turn: T,
    ) -> Result<Compiled, CompileError> {
        let (tell, told) = oneshot::channel();
        let this = self.clone();
        // The kernel kills the child when the thread that started it ends. Threads of a pool may end at
        // any time; this thread waits for the child.
        let thread = thread::Builder::new().name("compile".into()).spawn(move || {
            this.attend(&wasm, tell);
            drop(turn);
        });
        thread.map_err(|error| not_tried(&error))?;
        let ended = told.await.map_err(|_| not_tried(&io::Error::other("its thread ended")))?;
        ended.and_then(|end| verdict::of(end, self.within, self.memory))
    }

    /// Runs a child to its end, and kills it at the timeout or when the receiver is dropped.
    fn attend(&self, wasm: &[u8], mut tell: oneshot::Sender<Result<End, CompileError>>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let ended = runtime.and_then(|runtime| {
            runtime.block_on(async {
                let mut child = self.start()?;
                let end = tokio::select! {
                    end = talk(&mut child, wasm) => Some(end?),
                    () = tokio::time::sleep(self.within) => Some(End::OutOfTime),
                    () = tell.closed() => None,
                };
                // This also waits for the child, which may have ended already.
                child.kill().await?;
                Ok(end)
            })
        });
        if let Some(ended) = ended.map_err(|error| not_tried(&error)).transpose() {
            let _ = tell.send(ended);
        }
    }

    fn start(&self) -> io::Result<Child> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let threads = processors.min(THREADS_MAX);
        let addresses = ADDRESSES.get().copied();
        let terms = Terms { within: self.within, memory: self.memory, threads, addresses };
        Command::new(&self.program)
            .arg0("muster-compile")
            .args(terms.args())
            .env_clear()
            .env("RAYON_NUM_THREADS", threads.to_string())
            .env("MALLOC_ARENA_MAX", ARENAS_MAX.to_string())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
    }

    /// A compiler for tests of this crate, whose executable is no worker: it starts the built worker.
    #[cfg(test)]
    pub(crate) fn for_tests(rules: Rules) -> Self {
        let test = std::env::current_exe().expect("a test is a file");
        let built = test.ancestors().nth(2).expect("target/PROFILE").join("muster-worker");
        assert!(built.is_file(), "{} is not built: run `make build`", built.display());
        Compiler::of(built, &rules)
    }
}

fn not_tried(error: &io::Error) -> CompileError {
    let why = shortage::explain(error);
    CompileError::NotTried(format!("no process could be started to compile a module: {why}"))
}

/// Sends the module to the child and reads its code and its complaint, all at the same time: otherwise
/// one side could wait for a full pipe while the other side waits as well.
async fn talk(child: &mut Child, wasm: &[u8]) -> io::Result<End> {
    let piped = || io::Error::other("a pipe is missing");
    let mut input = child.stdin.take().ok_or_else(piped)?;
    let output = child.stdout.take().ok_or_else(piped)?;
    let complaint = child.stderr.take().ok_or_else(piped)?;
    let feed = async move {
        // A child that does not read all of the module says why by its complaint or its end.
        let _ = input.write_all(wasm).await;
    };
    let (status, code, complaint, ()) = tokio::join!(
        child.wait(),
        some(output, CODE_MAX + 1),
        some(complaint, COMPLAINT_MAX),
        feed
    );
    let (status, code) = (status?, code?);
    if code.len() as u64 > CODE_MAX {
        return Ok(End::TooMuchCode);
    }
    Ok(End::Exit { status, code, complaint: String::from_utf8_lossy(&complaint?).into() })
}

/// Reads up to `max` bytes; then the pipe is closed.
async fn some(from: impl AsyncRead + Unpin, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(max).read_to_end(&mut bytes).await?;
    Ok(bytes)
}
