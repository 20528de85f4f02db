//! The options of a daemon from a TOML file. The environment overrides the file, and the command line overrides both.
//! Never knows what an option means: the file's values are read as if they stood on the command line.

use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, Parser, error::ErrorKind, parser::ValueSource,
};
use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};
use toml::{Table, Value};

/// The variable that names the file.
pub const VARIABLE: &str = "MUSTER_CONFIG";

/// The id and the long name of the option that names the file.
const OPTION: &str = "config";

/// How similar an unknown name and an option have to be for a suggestion, from 0 to 1.
const SIMILARITY_MIN: f64 = 0.7;

/// The option that names the file.
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigFile {
    /// A TOML file with options: their long names, such as `slots = 4` or `label = ["region=eu"]`. The environment
    /// overrides it, and the command line overrides both. Read at each start of the process
    #[arg(long, value_name = "FILE", env = VARIABLE)]
    pub config: Option<PathBuf>,
}

/// Where the value of an option is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nothing names it, and it has no default.
    Nothing,
    /// The program.
    Default,
    /// The file.
    File,
    /// The environment.
    Environment,
    /// The command line.
    CommandLine,
}

/// An option of a daemon, as it would be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The long name.
    pub name: String,
    /// The values as texts; none if nothing names one and there is no default.
    pub values: Vec<String>,
    /// Where they are from.
    pub source: Source,
    /// Whether the values may have a password or a token in them.
    pub is_secret: bool,
}

/// The options of the process, or its end with exit code 2 and a sentence that says what is wrong.
pub fn parse<P: Parser>() -> P {
    let args: Vec<OsString> = std::env::args_os().collect();
    let named = matches(P::command(), args);
    named.and_then(|found| P::from_arg_matches(&found)).unwrap_or_else(|error| error.exit())
}

/// What the command line says, with the options of the file if it names one.
fn matches(command: Command, args: Vec<OsString>) -> Result<ArgMatches, clap::Error> {
    // Most commands read no file. They need not be parsed twice.
    let names_file = |arg: &OsString| arg.to_string_lossy().starts_with("--config");
    if !args.iter().any(names_file) && std::env::var_os(VARIABLE).is_none() {
        return command.try_get_matches_from(args);
    }
    let (mut all, file) = (args.clone(), read(command.clone(), args)?);
    all.extend(file.iter().flat_map(|file| file.args.clone()));
    command.try_get_matches_from(all).map_err(|error| match file {
        Some(File { path, .. }) if error.use_stderr() => {
            let text = error.render().to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            let from = path.display();
            clap::Error::raw(error.kind(), format!("{text}\nOptions are also read from {from}.\n"))
        }
        _ => error,
    })
}

/// Each option of a daemon. `command` has the options, and `args` is a command line for it.
pub fn explain(command: Command, args: Vec<OsString>) -> Result<Vec<Explained>, clap::Error> {
    let from_file = read(command.clone(), args.clone())?.map(|file| file.names).unwrap_or_default();
    let mut built = command.clone();
    built.build();
    let found = matches(command, args)?;
    let explained = options(&built).map(|(name, arg)| {
        let values = found.get_raw(arg.get_id().as_str()).into_iter().flatten();
        let values = values.map(|value| value.to_string_lossy().into_owned()).collect();
        let source = match found.value_source(arg.get_id().as_str()) {
            _ if from_file.contains(&name) => Source::File,
            Some(ValueSource::CommandLine) => Source::CommandLine,
            Some(ValueSource::EnvVariable) => Source::Environment,
            Some(_) => Source::Default,
            None => Source::Nothing,
        };
        Explained { name, values, source, is_secret: arg.is_hide_env_values_set() }
    });
    Ok(explained.collect())
}

/// The options that a file may have.
fn options(command: &Command) -> impl Iterator<Item = (String, &Arg)> {
    let is_option = |arg: &&Arg| !arg.is_hide_set() && !is_general(arg);
    let named = |arg: &'_ Arg| arg.get_long().map(String::from);
    command.get_arguments().filter(is_option).filter_map(move |arg| Some((named(arg)?, arg)))
}

/// Whether an option is about the command line itself.
fn is_general(arg: &Arg) -> bool {
    matches!(arg.get_id().as_str(), OPTION | "help" | "version")
}

/// A file, as far as nothing overrides it.
struct File {
    path: PathBuf,
    /// The names of the options in it that count.
    names: Vec<String>,
    /// These options, as they would stand on the command line.
    args: Vec<OsString>,
}

/// Reads the file that the command line names for the innermost subcommand.
fn read(mut command: Command, args: Vec<OsString>) -> Result<Option<File>, clap::Error> {
    command.build();
    // What the file has may be missing here.
    let found = command.clone().ignore_errors(true).try_get_matches_from(args)?;
    let (mut command, mut found) = (&command, &found);
    while let Some((name, inner)) = found.subcommand() {
        let Some(known) = command.find_subcommand(name) else { break };
        (command, found) = (known, inner);
    }
    let Ok(Some(path)) = found.try_get_one::<PathBuf>(OPTION) else { return Ok(None) };
    let refuse = |why: String| clap::Error::raw(ErrorKind::InvalidValue, format!("{why}\n"));
    let table = table(path).map_err(refuse)?;
    let (mut names, mut args) = (Vec::new(), Vec::new());
    for (name, value) in table {
        let Some((_, arg)) = options(command).find(|(known, _)| *known == name) else {
            return Err(refuse(format!("{}: {}", path.display(), unknown(command, &name))));
        };
        let written = written(arg, &name, &value);
        let written = written.map_err(|why| refuse(format!("{}: {name} {why}", path.display())))?;
        let source = found.value_source(arg.get_id().as_str());
        if !matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable)) {
            args.extend(written);
            names.push(name);
        }
    }
    Ok(Some(File { path: path.clone(), names, args }))
}

fn table(path: &Path) -> Result<Table, String> {
    let shown = path.display();
    let text = fs::read_to_string(path)
        .map_err(|error| format!("the configuration {shown} cannot be read: {error}"))?;
    text.parse().map_err(|error: toml::de::Error| format!("{shown} is not TOML: {error}"))
}

/// A sentence about a name that is no option.
fn unknown(command: &Command, name: &str) -> String {
    let near = options(command)
        .map(|(known, _)| (strsim::jaro_winkler(&known, name), known))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    match near {
        Some((_, near)) => format!("there is no option {name}; did you mean {near}?"),
        None => format!("there is no option {name}; see --help for all of them"),
    }
}

/// An option as it would stand on the command line. The error continues a sentence after the option's name.
fn written(arg: &Arg, name: &str, value: &Value) -> Result<Vec<OsString>, &'static str> {
    let with = |text: String| OsString::from(format!("--{name}={text}"));
    let one = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        _ => Err("has a value that is neither a text nor a number"),
    };
    let many = matches!(arg.get_action(), ArgAction::Append);
    match value {
        Value::Boolean(is_set) if !arg.get_action().takes_values() => {
            Ok(if *is_set { vec![format!("--{name}").into()] } else { Vec::new() })
        }
        _ if !arg.get_action().takes_values() => Err("is true or false"),
        Value::Array(values) if many => values.iter().map(|value| one(value).map(with)).collect(),
        Value::Table(entries) if many => {
            let entry =
                |(key, value): (&String, &Value)| Ok(with(format!("{key}={}", one(value)?)));
            entries.iter().map(entry).collect()
        }
        Value::Array(_) | Value::Table(_) => Err("has one value"),
        value => Ok(vec![with(one(value)?)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory as _, FromArgMatches as _};

    /// The options of a program.
    #[derive(Debug, Parser)]
    #[command(name = "program")]
    struct Program {
        #[command(flatten)]
        file: ConfigFile,
        #[arg(long, default_value_t = 1)]
        slots: u32,
        #[arg(long)]
        state_dir: PathBuf,
        #[arg(long = "label")]
        labels: Vec<String>,
        #[arg(long)]
        allow_root: bool,
        #[arg(long, hide = true)]
        supervised_by: Option<u32>,
    }

    fn parsed(text: &str, args: &[&str]) -> Result<Program, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("program.toml");
        fs::write(&path, text).expect("a file");
        let path = path.to_str().expect("UTF-8");
        let all = ["program", "--config", path].iter().chain(args).map(OsString::from).collect();
        let found = matches(Program::command(), all);
        found
            .and_then(|found| Program::from_arg_matches(&found))
            .map_err(|error| error.to_string().replace(path, "FILE"))
    }

    #[test]
    fn a_file_gives_options_and_the_command_line_overrides_it() {
        let text = "slots = 4\nstate-dir = '/var/lib/x'\nlabel = ['a=1', 'b=2']\nallow-root = true";
        let program = parsed(text, &[]).expect("valid");
        assert_eq!((program.slots, program.allow_root), (4, true));
        assert_eq!(program.state_dir, Path::new("/var/lib/x"));
        assert_eq!(program.labels, ["a=1", "b=2"]);
        assert!(program.file.config.is_some() && program.supervised_by.is_none());
        let program = parsed(text, &["--slots", "2", "--label", "c=3"]).expect("valid");
        assert_eq!((program.slots, program.labels), (2, vec!["c=3".to_string()]));
        let program = parsed("state-dir='x'\nallow-root=false\n[label]\na=1\nb='-x'", &[]);
        let program = program.expect("valid");
        assert_eq!(program.labels, ["a=1", "b=-x"]);
        assert!(!program.allow_root);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_the_next_step() {
        for (text, said) in [
            ("slot = 4", "FILE: there is no option slot; did you mean slots?"),
            ("zzz = 4", "FILE: there is no option zzz; see --help"),
            ("supervised-by = 4", "there is no option supervised-by"),
            ("config = 'other'", "there is no option config"),
            ("slots = [1]", "FILE: slots has one value"),
            ("slots = 4 5", "FILE is not TOML"),
            ("allow-root = 'yes'", "FILE: allow-root is true or false"),
            ("label = [[1]]", "FILE: label has a value that is neither"),
            ("slots = 'many'", "Options are also read from FILE."),
            ("slots = 4", "--state-dir"),
        ] {
            let error = parsed(text, &[]).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
            assert!(error.starts_with("error: ") && !error.contains("error: error"), "{error}");
        }
        let missing = ["program", "--config", "/no/such/file"].map(OsString::from);
        let error = matches(Program::command(), missing.into()).expect_err("none").to_string();
        assert!(error.contains("cannot be read"), "{error}");
    }

    #[test]
    fn each_option_is_explained_with_its_source() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("program.toml");
        fs::write(&path, "slots = 4\nlabel = ['a=1', 'b=2']").expect("a file");
        let args = ["program", "--config", path.to_str().expect("UTF-8"), "--state-dir", "x"];
        let found = explain(Program::command(), args.map(OsString::from).into()).expect("valid");
        let row = |name: &str, values: &[&str], source| Explained {
            name: name.into(),
            values: values.iter().map(ToString::to_string).collect(),
            source,
            is_secret: false,
        };
        let wanted = vec![
            row("slots", &["4"], Source::File),
            row("state-dir", &["x"], Source::CommandLine),
            row("label", &["a=1", "b=2"], Source::File),
            row("allow-root", &["false"], Source::Default),
        ];
        assert_eq!(found, wanted);
    }
}
