//! Tests of directories as hostile guests leave them.

use super::*;
use rustix::fs::{Mode, OFlags, mkdirat, openat};

struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> Self {
        TempDir(std::env::temp_dir().join(format!("muster-{name}-{}", std::process::id())))
    }

    fn scratch(&self, bytes_max: u64) -> Scratch {
        Scratch::new(&self.0, "a", bytes_max).expect("a directory")
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        tree::remove(&self.0).expect("it is ours");
        assert!(!self.0.exists());
    }
}

fn over(scratch: &mut Scratch) -> Option<(LimitName, u64)> {
    scratch.next = Instant::now();
    scratch.over()
}

/// Makes nested directories, deeper than any path can reach.
fn dig(scratch: &Scratch, levels: u32) {
    let mut dir = tree::open_at(scratch.path()).expect("it is there");
    let name = "x".repeat(250);
    for _ in 0..levels {
        mkdirat(&dir, name.as_str(), Mode::RWXU).expect("it is ours");
        dir = openat(&dir, name.as_str(), OFlags::DIRECTORY, Mode::empty()).expect("it is there");
    }
    let file = OFlags::CREATE | OFlags::WRONLY;
    openat(&dir, "file", file, Mode::RWXU).expect("it is ours");
}

#[test]
fn it_is_measured_whole() {
    let place = TempDir::new("scratch");
    let mut scratch = place.scratch(100_000);
    let path = scratch.path().to_path_buf();
    fs::create_dir(path.join("deep")).expect("it is ours");
    fs::write(path.join("deep/file"), vec![0; 80_000]).expect("it is ours");
    assert_eq!(over(&mut scratch), None);
    for name in ["1", "2", "3", "4", "5"] {
        fs::write(path.join(name), b"x").expect("it is ours");
    }
    assert_eq!(
        over(&mut scratch),
        Some((LimitName::DirBytes, 100_000)),
        "each file counts a block"
    );
}

#[test]
fn many_empty_files_are_too_much_as_well() {
    let place = TempDir::new("entries");
    let mut scratch = place.scratch(u64::MAX);
    for number in 0..=SCRATCH_ENTRIES_MAX {
        fs::write(scratch.path().join(number.to_string()), b"").expect("it is ours");
    }
    assert_eq!(over(&mut scratch), Some((LimitName::DirEntries, SCRATCH_ENTRIES_MAX)));
}

#[test]
fn what_lies_deeper_than_a_path_reaches_is_seen_and_removed() {
    let place = TempDir::new("depth");
    let mut scratch = place.scratch(u64::MAX);
    dig(&scratch, 300);
    assert_eq!(over(&mut scratch), Some((LimitName::DirDepth, SCRATCH_DEPTH_MAX)));
    let path = scratch.path().to_path_buf();
    tree::remove(&path).expect("however deep");
    assert!(!path.exists());
}

#[test]
fn a_file_without_a_name_counts_while_it_is_open() {
    let place = TempDir::new("nameless");
    let mut scratch = place.scratch(100_000);
    let path = scratch.path().join("file");
    fs::write(&path, vec![0; 200_000]).expect("it is ours");
    let open = fs::File::open(&path).expect("it is there");
    fs::remove_file(&path).expect("it is ours");
    assert_eq!(over(&mut scratch), Some((LimitName::DirBytes, 100_000)));
    drop(open);
    assert_eq!(over(&mut scratch), None);
}
