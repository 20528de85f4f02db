//! Having a module compiled by a child of this process, which may take only so much time and memory.
//! Never compiles here: what a module does to a compiler must not be done to the worker.
//!
//! The child is this same executable, told by its first argument what it is ([`child()`](crate::compile_child::child)). It reads
//! Wasm from its standard input and writes code, in the form of [`crate::engine::Program::code`], to
//! its standard output. The runtime's makers call a compiler that takes for ever no vulnerability:
//! stopping it is the task of whoever started it.

mod terms;
mod verdict;

pub(crate) use terms::{ARG, Terms};
pub(crate) use verdict::{MEMORY_OR_HOST, NO_MEMORY, NOT_BEGUN, REJECTED};

use crate::{policy::Rules, shortage};
use bytes::Bytes;
use muster_protocol::limit;
use std::{io, path::PathBuf, process::Stdio, thread, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
    sync::oneshot,
};
use verdict::End;

/// The executable that runs: the very file, even if another one has its name by now.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// The most code of one module. Guests become three times as large (wordcount 270 KB of 91 KB), so that
/// the largest module like them needs three quarters of this. It is half of what all programs of a
/// worker may take: none pushes out all others.
pub(crate) const CODE_MAX: u64 = 4 * limit::MODULE_SIZE_MAX;

/// The most that is heard of the child's complaint: a refusal is a sentence, a panic a few lines.
const COMPLAINT_MAX: u64 = 4 * 1024;

/// Threads of one compilation. Each has a stack, and the allocator gives some of them an arena:
/// beyond these, a machine of many processors would need more addresses than a module may have.
const THREADS_MAX: usize = 8;

/// Arenas of the child's allocator, of 64 MiB of addresses each.
const ARENAS_MAX: usize = 2;

/// Why there is no code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The module cannot be compiled within the limits here, or not at all.
    #[error("{0}")]
    Rejected(String),
    /// Nothing is known of the module: the child did not do its work, for reasons of its own.
    #[error("{0}")]
    NotTried(String),
    /// The child was killed, not by this process. The kernel does that when the machine has no more
    /// memory: because of the module, or of anything else that runs there.
    #[error("{0}")]
    Killed(String),
}

/// Code that a child of this process has just compiled. Only [`Compiler::compile`] makes one.
pub struct Compiled {
    code: Vec<u8>,
}

impl Compiled {
    /// The code, as [`crate::engine::Program::code`] has it.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.code
    }
}

/// Starts children that compile. Clones are alike.
#[derive(Clone, Debug)]
pub struct Compiler {
    program: PathBuf,
    within: Duration,
    memory: u64,
}

impl Compiler {
    /// One that starts this executable and keeps to the worker's policy.
    pub fn new(rules: &Rules) -> Self {
        Compiler::of(THIS_PROGRAM.into(), rules)
    }

    /// One that starts another executable that calls [`child()`](crate::compile_child::child) first.
    pub fn of(program: PathBuf, rules: &Rules) -> Self {
        Compiler { program, within: rules.compile_within, memory: rules.compile_memory }
    }

    /// Has a module compiled. `turn` is dropped when the child is gone; dropping the future kills it.
    pub async fn compile<T: Send + 'static>(
        &self,
        wasm: Bytes,
        turn: T,
    ) -> Result<Compiled, CompileError> {
        let (tell, told) = oneshot::channel();
        let this = self.clone();
        // The kernel kills the child when the thread that started it ends. Threads of a pool may end
        // at any time; this one waits for the child.
        let thread = thread::Builder::new().name("compile".into()).spawn(move || {
            this.attend(&wasm, tell);
            drop(turn);
        });
        thread.map_err(|error| not_tried(&error))?;
        let ended = told.await.map_err(|_| not_tried(&io::Error::other("its thread ended")))?;
        ended.and_then(|end| verdict::of(end, self.within, self.memory))
    }

    /// Sees a child to its end, and ends it where nobody wants to be told.
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
                // Waited for as well; it may have ended already.
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
        Command::new(&self.program)
            .arg0("muster-compile")
            .args(Terms { within: self.within, memory: self.memory, threads }.args())
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

    /// One for tests of this crate, which are no worker: it starts the program that was built.
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

/// Gives the child the module and takes what it says, all of it at once: neither side's pipe may
/// fill while the other one waits.
async fn talk(child: &mut Child, wasm: &[u8]) -> io::Result<End> {
    let piped = || io::Error::other("a pipe is missing");
    let mut input = child.stdin.take().ok_or_else(piped)?;
    let output = child.stdout.take().ok_or_else(piped)?;
    let complaint = child.stderr.take().ok_or_else(piped)?;
    let feed = async move {
        // What does not want all of it says why.
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

/// What comes, up to so many bytes. Then the pipe is closed.
async fn some(from: impl AsyncRead + Unpin, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(max).read_to_end(&mut bytes).await?;
    Ok(bytes)
}
