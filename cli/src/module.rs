//! `muster module`: Wasm files and their names in the store. Never stores a file that a worker would
//! refuse.

// Help texts have brackets that are no links.
#![allow(rustdoc::broken_intra_doc_links)]

mod key;

pub use key::sign_bytes;

use crate::{
    blob,
    client::{self, Client, ConnectArgs},
    exit::Failure,
    output::{self, Cell, Format},
    quantity, terminal,
};
use clap::{Args, Subcommand};
use muster_module::ModuleInfo;
use muster_protocol::{
    Digest,
    api::{Endpoint, FindModule, ModuleVersion, Modules, RegisterModule, RemoveModule},
    id, limit,
    message::ObjectStore,
    task::ModuleRef,
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{self, IsTerminal as _, Read as _},
    path::{Path, PathBuf},
};

/// What to do with modules.
#[derive(Subcommand)]
pub enum Command {
    /// Store a Wasm module or component, and give it a name
    #[command(after_help = "Examples:
  muster module push target/wasm32-wasip1/release/resize.wasm
  muster module push out.wasm --name resize:1.2.0
  muster module push out.wasm --sign shop.key

It prints what the module imports, and which grants its tasks may need. A task always runs the module with
which it was submitted, whatever is pushed later. sha256:DIGEST always names the same module.")]
    Push(Push),
    /// Make a key to sign modules with: FILE, which you keep secret, and FILE.pub
    #[command(
        after_help = "The keys and signatures are those of minisign, without a password. The public key \
goes into the policies of workers: as a signer of modules that may run there, or that are given a secret."
    )]
    Key {
        /// The file for the secret key
        file: PathBuf,
    },
    /// List the named modules
    #[command(alias = "list")]
    Ls,
    /// Show the kind, the imports and the needed grants of a file or a named module
    Inspect {
        /// A file, or NAME[:VERSION]
        #[arg(value_name = "FILE|NAME")]
        what: String,
    },
    /// Remove a name, or one version of it; tasks that were submitted keep their module
    Rm {
        /// NAME[:VERSION]
        name: String,
        /// Do not ask for confirmation
        #[arg(long, short)]
        yes: bool,
    },
}

/// What to push.
#[derive(Args)]
pub struct Push {
    /// The Wasm file
    file: PathBuf,
    /// Its name, and optionally its version: NAME[:VERSION] [default: the name of the file]
    #[arg(long)]
    name: Option<String>,
    /// Its version [default: the next number]
    #[arg(long)]
    version: Option<String>,
    /// Sign it with this secret key, which `muster module key` or `minisign -G -W` made
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
}

/// Runs the command.
pub async fn run(command: Command, connect: &ConnectArgs, format: Format) -> anyhow::Result<()> {
    match command {
        Command::Push(push) => self::push(push, connect, format).await,
        Command::Key { file } => key::make(&file, format),
        Command::Ls => ls(connect, format).await,
        Command::Inspect { what } => inspect(&what, connect, format).await,
        Command::Rm { name, yes } => rm(&name, yes, connect, format).await,
    }
}

async fn push(push: Push, connect: &ConnectArgs, format: Format) -> anyhow::Result<()> {
    let (name, version) = push.named()?;
    let wasm = Wasm::read(&push.file)?;
    let sign = |file: &PathBuf| key::sign(file, &wasm, &name);
    let signature = push.sign.as_ref().map(sign).transpose()?;
    let client = Client::connect(connect).await?;
    wasm.store(&client).await?;
    let digest = wasm.digest;
    let question = RegisterModule { name: name.clone(), version, digest, signature };
    let version: ModuleVersion = client.insist(Endpoint::ModuleRegister, &question).await?;
    if format == Format::Json {
        let mut told = serde_json::to_value(&version)?;
        told["name"] = json!(name);
        told["imports"] = json!(wasm.info.imports);
        told["needs"] = needs_json(&wasm.info);
        return output::json(&told);
    }
    output::line(&format!(
        "{name}:{} {} {} ({})",
        version.version,
        version.digest,
        quantity::show_size(version.size),
        wasm.kind
    ))?;
    output::fields(&[
        ("signed by", signer(&version)),
        ("imports", wasm.info.imports.join("\n")),
        ("may need", needs_lines(&wasm.info)),
    ])
}

/// The key that a version says it is signed with; empty if it is not signed.
fn signer(version: &ModuleVersion) -> String {
    version.signature.as_ref().map(|signature| signature.key().to_string()).unwrap_or_default()
}

impl Push {
    /// The name and version it is pushed under.
    fn named(&self) -> anyhow::Result<(String, Option<String>)> {
        let Some(given) = &self.name else {
            let name = name_of(&self.file).ok_or_else(|| {
                Failure::user(format!("cannot derive a name from {}", self.file.display()))
                    .hint("give it one: --name NAME")
            })?;
            return Ok((name, self.version.clone()));
        };
        let (name, version) = split(given);
        if !id::is_name(name) {
            let text = format!("{name:?} cannot be a module's name");
            return Err(Failure::user(text).hint(format!("a name is {}", id::NAME_FORM)).into());
        }
        match (version, &self.version) {
            (Some(one), Some(other)) if one != other => {
                let text = format!("{given} says version {one}, --version says {other}");
                Err(Failure::user(text).hint("give one of them").into())
            }
            (one, other) => Ok((name.into(), other.clone().or(one.map(Into::into)))),
        }
    }
}

/// The grants that tasks of a module may need, a line each.
fn needs_lines(info: &ModuleInfo) -> String {
    let lines = info.needs.iter().map(|need| match need.grant {
        Some(grant) => format!("{grant}: it {}", need.what),
        None => format!("(never granted): it {}", need.what),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn needs_json(info: &ModuleInfo) -> Value {
    info.needs.iter().map(|need| json!({ "grant": need.grant, "what": need.what })).collect()
}

async fn ls(connect: &ConnectArgs, format: Format) -> anyhow::Result<()> {
    let modules = list(&Client::connect(connect).await?).await?;
    if format == Format::Json {
        return output::json(&modules);
    }
    let rows = modules.modules.iter().flat_map(|entry| {
        entry.versions.iter().rev().map(|version| {
            vec![
                Cell::new(&entry.name),
                Cell::new(&version.version),
                Cell::new(&version.kind),
                Cell::new(quantity::show_size(version.size)),
                Cell::new(&version.digest.hex()[..12]),
                Cell::new(output::ago(version.pushed_at)),
                Cell::new(signer(version)),
            ]
        })
    });
    let headers = ["name", "version", "kind", "size", "sha256", "pushed", "signed by"];
    output::table(&headers, &["signed by", "kind", "size"], rows.collect())
}

async fn inspect(what: &str, connect: &ConnectArgs, format: Format) -> anyhow::Result<()> {
    let info = if is_file(what) {
        examine(&read(Path::new(what))?, what)?
    } else {
        let client = Client::connect(connect).await?;
        let module = resolve(&client, what).await?;
        let store = ObjectStore::Modules;
        let data = blob::fetch(&client, store, module.digest, limit::MODULE_SIZE_MAX).await?;
        examine(&data, what)?
    };
    if format == Format::Json {
        return output::json(&json!({
            "kind": info.kind.to_string(),
            "size": info.size,
            "digest": info.digest,
            "imports": info.imports,
            "needs": needs_json(&info),
            "exports": info.exports,
        }));
    }
    output::fields(&[
        ("kind", info.kind.to_string()),
        ("size", quantity::show_size(info.size)),
        ("digest", info.digest.to_string()),
        ("imports", info.imports.join("\n")),
        ("may need", needs_lines(&info)),
        ("exports", info.exports.join("\n")),
    ])
}

async fn rm(name: &str, yes: bool, connect: &ConnectArgs, format: Format) -> anyhow::Result<()> {
    let (name, version) = split(name);
    if !yes && io::stdin().is_terminal() {
        let what =
            version.map_or_else(|| format!("every version of {name}"), |v| format!("{name}:{v}"));
        terminal::note_bytes(format!("remove {}? [y/N] ", terminal::escaped(&what)).as_bytes());
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Err(Failure::user("nothing was removed").into());
        }
    }
    let client = Client::connect(connect).await?;
    let question = RemoveModule { name: name.into(), version: version.map(Into::into) };
    let left: Modules = client.ask(Endpoint::ModuleRemove, &question).await?;
    match format {
        Format::Json => output::json(&left),
        Format::Table => Ok(()),
    }
}

async fn list(client: &Client) -> anyhow::Result<Modules> {
    let ask = |asked| async move { client.insist(Endpoint::ModuleList, &asked).await };
    let modules = client::pages(ask, |page: Modules| (page.modules, page.more)).await?;
    Ok(Modules { modules, more: None })
}

/// The module that `what` names: a file, which is stored by its digest; a digest; a name.
pub async fn resolve(client: &Client, what: &str) -> anyhow::Result<ModuleRef> {
    if let Ok(digest) = what.parse() {
        return Ok(ModuleRef { name: None, digest });
    }
    if is_file(what) {
        let wasm = Wasm::read(Path::new(what))?;
        wasm.store(client).await?;
        return Ok(ModuleRef { name: None, digest: wasm.digest });
    }
    let (name, version) = split(what);
    let asked = FindModule { name: name.into(), version: version.map(Into::into) };
    let found: Option<ModuleVersion> =
        client.insist_if_served(Endpoint::ModuleFind, &asked).await?;
    let found = match found {
        Some(found) => found,
        None => find_in_list(client, name, version).await?,
    };
    Ok(ModuleRef { name: Some(format!("{name}:{}", found.version)), digest: found.digest })
}

/// The module that a name means, from masters of an earlier version, which only list all modules.
async fn find_in_list(
    client: &Client,
    name: &str,
    version: Option<&str>,
) -> anyhow::Result<ModuleVersion> {
    let modules = list(client).await?.modules;
    let entry = modules.iter().find(|entry| entry.name == name);
    entry.and_then(|entry| entry.version(version)).cloned().ok_or_else(|| {
        Failure::user(format!("there is no module {name}"))
            .hint("muster module ls, or push it with: muster module push FILE")
            .into()
    })
}

/// The module in a file, as a worker would be given it.
pub fn load(what: &str) -> anyhow::Result<(Digest, Vec<u8>)> {
    if !is_file(what) {
        let failure = Failure::user(format!("{what:?} is not a file, and --local runs one"));
        return Err(failure.hint(format!("name it with its path: ./{what}.wasm")).into());
    }
    Wasm::read(Path::new(what)).map(|wasm| (wasm.digest, wasm.bytes))
}

/// Whether `what` is meant as a file: names have neither dots nor slashes.
fn is_file(what: &str) -> bool {
    what.ends_with(".wasm") || what.contains('/')
}

fn split(what: &str) -> (&str, Option<&str>) {
    match what.split_once(':') {
        Some((name, version)) => (name, Some(version)),
        None => (what, None),
    }
}

/// A module that workers accept.
pub struct Wasm {
    /// What is stored.
    pub bytes: Vec<u8>,
    /// Their digest.
    pub digest: Digest,
    /// Module or component.
    pub kind: String,
    /// What they import and need.
    pub info: ModuleInfo,
}

impl Wasm {
    /// Reads a file, and makes a component of a module that needs to be one.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let bytes = read(file)?;
        let name = file.display().to_string();
        let info = examine(&bytes, &name)?;
        if !info.kind.needs_component() {
            return Ok(Wasm { digest: info.digest, kind: info.kind.to_string(), bytes, info });
        }
        let bytes =
            muster_module::to_component(&bytes).map_err(|refusal| refused(&name, &refusal))?;
        let made = examine(&bytes, &name)?;
        Ok(Wasm { digest: made.digest, kind: made.kind.to_string(), bytes, info: made })
    }

    async fn store(&self, client: &Client) -> anyhow::Result<bool> {
        let bytes = self.bytes.clone().into();
        blob::put(client, ObjectStore::Modules, self.digest, &bytes).await
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let unreadable =
        |error: io::Error| Failure::user(format!("cannot read {}: {error}", file.display()));
    let mut bytes = Vec::new();
    // Read one byte more than the limit, to detect a file that is too large. A device has no size and no
    // end.
    let opened = fs::File::open(file).map_err(unreadable)?;
    opened.take(limit::MODULE_SIZE_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > limit::MODULE_SIZE_MAX {
        let max = quantity::show_size(limit::MODULE_SIZE_MAX);
        let text = format!("{} is larger than the {max} that a module may have", file.display());
        return Err(Failure::user(text)
            .hint("leave out debug information: wasm-tools strip")
            .into());
    }
    Ok(bytes)
}

fn examine(bytes: &[u8], name: &str) -> anyhow::Result<ModuleInfo> {
    Ok(muster_module::inspect(bytes).map_err(|refusal| refused(name, &refusal))?)
}

fn refused(name: &str, refusal: &muster_module::ModuleRefusal) -> Failure {
    Failure::user(format!("{name} is refused: {refusal}"))
}

/// A module's name made of its file's: `Resize_Image.v2.wasm` becomes `resize-image-v2`.
pub fn name_of(file: &Path) -> Option<String> {
    let stem = file.file_stem()?.to_str()?.to_ascii_lowercase();
    let words = stem.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut name = words.collect::<Vec<_>>().join("-");
    name.truncate(id::NAME_SIZE_MAX);
    let name = name.trim_end_matches('-');
    id::is_name(name).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_file_names() {
        for (file, name) in [
            ("resize.wasm", Some("resize")),
            ("/a/b/Resize_Image.v2.wasm", Some("resize-image-v2")),
            ("__x__.wasm", Some("x")),
            ("größe.wasm", Some("gr-e")),
            ("___.wasm", None),
            ("", None),
        ] {
            assert_eq!(name_of(Path::new(file)).as_deref(), name, "{file:?}");
        }
        let long = format!("{}-b.wasm", "a".repeat(62));
        assert_eq!(name_of(Path::new(&long)), Some("a".repeat(62)));
    }

    #[test]
    fn files_are_told_from_names() {
        assert!(is_file("hello.wasm") && is_file("./hello") && is_file("out/x.wasm"));
        assert!(!is_file("hello") && !is_file("hello:1.2.0"));
    }

    #[test]
    fn a_name_may_carry_its_version() {
        let named = |name: Option<&str>, version: Option<&str>| {
            let push = Push {
                file: "hello.wasm".into(),
                name: name.map(Into::into),
                version: version.map(Into::into),
                sign: None,
            };
            push.named().map_err(|error| error.to_string())
        };
        let is = |name: &str, version: Option<&str>| Ok((name.into(), version.map(Into::into)));
        assert_eq!(named(None, None), is("hello", None));
        assert_eq!(named(None, Some("1")), is("hello", Some("1")));
        assert_eq!(named(Some("other:1.2"), None), is("other", Some("1.2")));
        assert_eq!(named(Some("other:1.2"), Some("1.2")), is("other", Some("1.2")));
        let both = named(Some("other:1"), Some("2")).expect_err("which?");
        assert!(both.contains("says version 1"), "{both}");
        assert!(named(Some("No:1"), None).is_err());
    }
}
