//! Recorded records and frames of each version can be read. The files are in `tests/compat/`: a folder
//! for each minor version, a line for each value. The files of a version are written once, before its
//! release, by `cargo test -p muster-protocol --test compat -- --ignored`. They are never changed.

mod values;

use muster_protocol::{
    frame::{self, Encoding, FrameRange, HEADER_SIZE, Message},
    message::{Dispatch, Hello, LogChunk, ToMaster, ToWorker},
    record::{self, Record},
    registry::Marks,
    task::Outcome,
};
use serde::Serialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Debug, fs, path::PathBuf};

/// The version in development.
const THIS: &str = "0.2";

/// The range of frames that 0.2 speaks.
const SPOKEN: FrameRange = FrameRange { oldest: 1, newest: 2 };

fn path(version: &str, file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/compat")
        .join(version)
        .join(format!("{file}.txt"))
}

/// The lines of a file, each a name and a value.
struct Lines(BTreeMap<String, String>);

impl Lines {
    fn of(version: &str, file: &str) -> Self {
        let text = fs::read_to_string(path(version, file)).expect("a recording");
        let line = |line: &str| {
            let (name, value) = line.split_once(' ').expect("a name and a value");
            (name.to_string(), value.to_string())
        };
        Lines(text.lines().map(line).collect())
    }

    fn take(&mut self, name: &str) -> String {
        self.0.remove(name).unwrap_or_else(|| panic!("{name} is not recorded"))
    }

    fn end(self) {
        let left: Vec<_> = self.0.keys().collect();
        assert!(left.is_empty(), "nothing reads {left:?}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    (0..text.len()).step_by(2).map(byte).collect()
}

fn body<T: Message>(encoding: Encoding, message: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::encode(encoding, message, &mut bytes).expect("it fits");
    bytes.split_off(HEADER_SIZE)
}

/// Each message is decoded to the expected value. In frames 1 the value is also encoded to the same
/// bytes.
fn frames<T>(lines: &mut Lines, encoding: Encoding, messages: Vec<(String, T)>)
where
    T: Message + PartialEq + Debug,
{
    for (name, message) in messages {
        let bytes = unhex(&lines.take(&name));
        if encoding == Encoding::Positional {
            assert_eq!(hex(&body(encoding, &message)), hex(&bytes), "{name}");
        }
        assert_eq!(frame::decode(encoding, &bytes), Ok(message), "{name}");
    }
}

fn all_frames(version: &str, file: &str, encoding: Encoding, spoken: FrameRange) {
    let mut lines = Lines::of(version, file);
    frames(&mut lines, encoding, values::to_master(spoken));
    frames(&mut lines, encoding, values::to_worker(spoken));
    frames(&mut lines, encoding, values::asks());
    frames(&mut lines, encoding, values::tolds());
    frames(&mut lines, encoding, values::logs());
    lines.end();
}

#[test]
fn frames_1_are_read_and_written_as_version_0_1_did() {
    all_frames("0.1", "frames-1", Encoding::Positional, FrameRange::FIRST);
}

#[test]
fn frames_2_are_read_as_version_0_2_wrote_them() {
    all_frames("0.2", "frames-2", Encoding::Named, SPOKEN);
}

/// Each record is read as the expected value. With fields added that a later version might have, at
/// every place, it is read as well, and written back with them.
fn a_record<T: Record + PartialEq + Debug>(lines: &mut Lines, name: &str, value: &T) {
    let text = lines.take(name);
    assert_eq!(record::read::<T>(text.as_bytes()).expect(name), *value, "{name}");
    let recorded: Value = serde_json::from_str(&text).expect("JSON");
    for place in places(&recorded) {
        let mut more = recorded.clone();
        more.pointer_mut(&place).expect("a place")["new_field"] = json!({"of": [1, "x", null]});
        let text = more.to_string();
        let read: T = record::read(text.as_bytes()).unwrap_or_else(|error| {
            panic!("{name} with a new field in {place:?}: {error}");
        });
        let written = record::write(&read).expect("JSON");
        let written: Value = serde_json::from_slice(&written).expect("JSON");
        assert_eq!(written, more, "{name} with a new field in {place:?}");
    }
}

/// The objects that are structs: not maps, and not the single entry of a variant.
fn places(value: &Value) -> Vec<String> {
    let maps = ["selector", "labels", "env"];
    let variants = ["state", "verdict", "input", "output"];
    let mut found = vec![];
    walk(value, "", &mut |place| {
        let name = place.rsplit('/').next().unwrap_or_default();
        // The state of a checkpoint is data; the state of a task is a variant.
        if !maps.contains(&name) && !variants.contains(&name) {
            found.push(place.to_string());
        }
    });
    found
}

fn walk(value: &Value, place: &str, found: &mut impl FnMut(&str)) {
    match value {
        Value::Object(entries) => {
            found(place);
            for (name, value) in entries {
                walk(value, &format!("{place}/{name}"), found);
            }
        }
        Value::Array(elements) => {
            for (at, value) in elements.iter().enumerate() {
                walk(value, &format!("{place}/{at}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn records_are_read_as_each_version_wrote_them() {
    for version in ["0.1", "0.2"] {
        let mut lines = Lines::of(version, "records");
        for (name, task) in values::tasks() {
            a_record(&mut lines, &name, &task);
        }
        a_record(&mut lines, "lease", &values::lease());
        a_record(&mut lines, "lease-unwell", &values::unwell());
        a_record(&mut lines, "master", &values::master());
        a_record(&mut lines, "guard", &values::guard());
        a_record(&mut lines, "checkpoint", &values::checkpoint());
        a_record(&mut lines, "module", &values::module());
        let known = lines.take("known");
        assert_eq!(serde_json::from_str::<Marks>(&known).expect("JSON"), values::marks());
        lines.end();
    }
}

/// A message with a field that a later version might add.
#[derive(Serialize)]
struct More<T> {
    new_field: BTreeMap<String, Vec<u64>>,
    #[serde(flatten)]
    known: T,
    last_field: Option<String>,
}

fn more<T>(known: T) -> More<T> {
    More { new_field: [("of".into(), vec![1, u64::MAX])].into(), known, last_field: None }
}

#[test]
fn fields_that_a_later_version_adds_to_frames_are_passed_over() {
    #[derive(Serialize)]
    enum Later {
        Hello(More<Hello>),
        Dispatch(More<Dispatch>),
        Finished {
            key: More<muster_protocol::message::AttemptKey>,
            revision: u64,
            outcome: More<Outcome>,
            at: u8,
        },
    }

    fn check<T: Message + PartialEq + Debug>(later: impl Serialize, known: T) {
        let mut bytes = Vec::new();
        later.serialize(&mut minicbor_serde::Serializer::new(&mut bytes)).expect("CBOR");
        assert_eq!(frame::decode(Encoding::Named, &bytes), Ok(known));
    }

    for (name, message) in values::to_master(SPOKEN) {
        match message.clone() {
            ToMaster::Hello(hello) => check(Later::Hello(more(hello)), message),
            ToMaster::Finished { key, revision, outcome } => {
                let (key, outcome) = (more(key), more(outcome));
                check(Later::Finished { key, revision, outcome, at: 7 }, message);
            }
            _ => assert!(!name.starts_with("finished")),
        }
    }
    check(Later::Dispatch(more(values::dispatch())), ToWorker::Dispatch(values::dispatch()));
    for (_, chunk) in values::logs() {
        check(more(chunk.clone()), chunk);
    }
}

#[test]
fn a_field_that_a_frame_does_not_have_takes_its_default() {
    #[derive(Serialize)]
    enum Earlier {
        Hello(EarlierHello),
    }

    #[derive(Serialize)]
    struct EarlierHello {
        to: muster_protocol::SessionId,
        session: muster_protocol::SessionId,
        attempts: [u8; 0],
        holds: muster_protocol::registry::Mark,
        version: &'static str,
    }

    let (to, session) = (muster_protocol::SessionId(1), muster_protocol::SessionId(2));
    let hello = EarlierHello { to, session, attempts: [], holds: Default::default(), version: "0" };
    let mut bytes = Vec::new();
    let written = Earlier::Hello(hello).serialize(&mut minicbor_serde::Serializer::new(&mut bytes));
    written.expect("CBOR");
    let Ok(ToMaster::Hello(hello)) = frame::decode(Encoding::Named, &bytes) else {
        panic!("it is read");
    };
    assert_eq!(hello.frames, FrameRange::FIRST);
}

/// Writes the recordings of this version, unless they exist.
#[test]
#[ignore = "it writes the recordings of a version, once"]
fn record_this_version() {
    fn lines<T: Message>(messages: Vec<(String, T)>) -> String {
        let line = |(name, message): (String, T)| {
            format!("{name} {}\n", hex(&body(Encoding::Named, &message)))
        };
        messages.into_iter().map(line).collect()
    }
    fn stored(name: &str, value: &impl Record) -> String {
        let text = record::write(value).expect("JSON");
        format!("{name} {}\n", String::from_utf8(text).expect("UTF-8"))
    }

    let mut frames = lines(values::to_master(SPOKEN));
    frames += &lines(values::to_worker(SPOKEN));
    frames +=
        &(lines(values::asks()) + &lines(values::tolds()) + &lines::<LogChunk>(values::logs()));
    let mut records: String =
        values::tasks().iter().map(|(name, task)| stored(name, task)).collect();
    records += &stored("lease", &values::lease());
    records += &stored("lease-unwell", &values::unwell());
    records += &stored("master", &values::master());
    records += &stored("guard", &values::guard());
    records += &stored("checkpoint", &values::checkpoint());
    records += &stored("module", &values::module());
    let known = serde_json::to_string(&values::marks()).expect("JSON");
    records += &format!("known {known}\n");
    for (file, text) in [("frames-2", frames), ("records", records)] {
        let path = path(THIS, file);
        assert!(
            !path.exists(),
            "{} is there: nothing that was recorded is changed",
            path.display()
        );
        fs::write(&path, text).expect("a new file");
    }
}
