//! The workers' journals: from when to when each attempt ran, and where. Never a guess: an incomplete
//! line is read the next time.

use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
};

/// A line of a journal, with the fields that matter here.
#[derive(Debug, Deserialize)]
struct JournalLine<'a> {
    at_ns: u64,
    what: &'a str,
    task: Option<&'a str>,
    attempt: Option<&'a str>,
    worker: &'a str,
    until_ns: Option<u64>,
}

/// One run of an attempt, from its worker's journal. All times are by the boot clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The attempt's id.
    pub attempt: String,
    /// The worker that ran it.
    pub worker: String,
    /// The time of the first line about it.
    pub first_ns: u64,
    /// The time of its guest's first effect.
    pub called_ns: Option<u64>,
    /// The time of the last line about something that it did.
    pub last_ns: u64,
    /// The longest time between two of its lines: how long the machine delayed a guest that beats.
    pub pause_ns: u64,
    /// Whether it ended by itself.
    pub ended: bool,
}

impl Run {
    /// The time at which its guest is first known to have run.
    pub fn began_ns(&self) -> u64 {
        self.called_ns.unwrap_or(self.first_ns)
    }
}

/// The contents of all journals.
#[derive(Debug, Default)]
pub struct RunLog {
    journals: Vec<Journal>,
    runs: BTreeMap<String, Vec<Run>>,
    /// The ends of each worker's leases: when each end was logged, and when the lease ended.
    lapses: BTreeMap<String, Vec<(u64, u64)>>,
}

#[derive(Debug)]
struct Journal {
    path: PathBuf,
    read: u64,
    /// The beginning of a line whose end is not written yet.
    rest: Vec<u8>,
}

impl RunLog {
    /// Reads these journals, which need not exist yet.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let journal = |path| Journal { path, read: 0, rest: Vec::new() };
        RunLog { journals: paths.into_iter().map(journal).collect(), ..RunLog::default() }
    }

    /// Reads what was written since the last call.
    ///
    /// # Errors
    ///
    /// When a journal cannot be read, or has a malformed line.
    pub fn look(&mut self) -> anyhow::Result<()> {
        for journal in &mut self.journals {
            let Ok(mut file) = File::open(&journal.path) else { continue };
            file.seek(SeekFrom::Start(journal.read))?;
            let mut bytes = std::mem::take(&mut journal.rest);
            journal.read += file.read_to_end(&mut bytes)? as u64;
            let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            for line in bytes[..whole].split(|&byte| byte == b'\n').filter(|line| !line.is_empty())
            {
                match serde_json::from_slice(line) {
                    Ok(line) => note(&mut self.runs, &mut self.lapses, &line),
                    // A worker was killed in the middle of this line. The next process starts a new
                    // line.
                    Err(error) => anyhow::ensure!(
                        !line.ends_with(b"}"),
                        "{}: {error}: {}",
                        journal.path.display(),
                        String::from_utf8_lossy(line)
                    ),
                }
            }
            journal.rest = bytes.split_off(whole);
        }
        Ok(())
    }

    /// The runs of every task, in no order.
    pub fn tasks(&self) -> &BTreeMap<String, Vec<Run>> {
        &self.runs
    }

    /// The runs of a task.
    pub fn runs(&self, task: &str) -> &[Run] {
        self.runs.get(task).map_or(&[], Vec::as_slice)
    }

    /// The end of the lease under which a run was, if its worker logged that. A worker that was killed
    /// did not.
    pub fn lease_end(&self, run: &Run) -> Option<u64> {
        let lapses = self.lapses.get(&run.worker)?.iter();
        lapses.filter(|(at_ns, _)| *at_ns >= run.first_ns).min().map(|(_, until_ns)| *until_ns)
    }

    /// A run log of these lines, without a file.
    #[cfg(test)]
    pub fn of(lines: &[(u64, &str, &str, &str, &str)]) -> Self {
        let mut run_log = RunLog::default();
        for &(at_ns, what, task, attempt, worker) in lines {
            let (task, attempt) = (Some(task), Some(attempt));
            let line = JournalLine { at_ns, what, task, attempt, worker, until_ns: Some(at_ns) };
            note(&mut run_log.runs, &mut run_log.lapses, &line);
        }
        run_log
    }
}

fn note(
    tasks: &mut BTreeMap<String, Vec<Run>>,
    lapses: &mut BTreeMap<String, Vec<(u64, u64)>>,
    line: &JournalLine<'_>,
) {
    if let ("lapsed", Some(until_ns)) = (line.what, line.until_ns) {
        lapses.entry(line.worker.into()).or_default().push((line.at_ns, until_ns));
    }
    let (Some(task), Some(attempt)) = (line.task, line.attempt) else { return };
    if !tasks.contains_key(task) {
        tasks.insert(task.into(), Vec::new());
    }
    let Some(runs) = tasks.get_mut(task) else { return };
    let same = |run: &&mut Run| run.attempt == attempt && run.worker == line.worker;
    let known = runs.iter_mut().rev().find(same);
    // The worker logs these lines before the guest runs, or when the worker notices the end of the
    // lease.
    if matches!(line.what, "received" | "lapsed") {
        return;
    }
    match known.filter(|_| line.what != "started") {
        Some(run) => {
            run.pause_ns = run.pause_ns.max(line.at_ns.saturating_sub(run.last_ns));
            run.last_ns = run.last_ns.max(line.at_ns);
            run.ended |= line.what == "ended";
            if line.what == "called" {
                run.called_ns.get_or_insert(line.at_ns);
            }
        }
        // An attempt that is started a second time is a second run.
        None => runs.push(Run {
            attempt: attempt.into(),
            worker: line.worker.into(),
            first_ns: line.at_ns,
            called_ns: (line.what == "called").then_some(line.at_ns),
            last_ns: line.at_ns,
            pause_ns: 0,
            ended: line.what == "ended",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn half_a_line_is_read_when_it_is_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("journal");
        let mut run_log = RunLog::new([path.clone()]);
        run_log.look().expect("nothing is there yet");
        let mut file = File::create(&path).expect("a file");
        let line = |at: u64, what: &str| {
            format!(r#"{{"at_ns":{at},"what":"{what}","task":"t","attempt":"a","worker":"w"}}"#)
                + "\n"
        };
        let (first, second) = (line(1, "started"), line(2, "called"));
        write!(file, "{first}{}", &second[..20]).expect("written");
        run_log.look().expect("one line");
        assert_eq!(run_log.runs("t")[0].last_ns, 1);
        write!(file, "{}{}", &second[20..], line(9, "lapsed")).expect("written");
        run_log.look().expect("the rest");
        let [run] = run_log.runs("t") else { panic!("{run_log:?}") };
        assert_eq!((run.first_ns, run.called_ns, run.last_ns), (1, Some(2), 2));
        write!(file, "{}", line(12, "started")).expect("written");
        run_log.look().expect("one more");
        assert_eq!(run_log.runs("t").len(), 2, "the same attempt, begun again");
    }
}
