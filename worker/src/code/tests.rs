//! What the cache returns, and above all what it refuses.

use super::*;

struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("muster-code-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("a directory");
        TempDir(dir)
    }

    fn open(&self) -> CodeCache {
        CodeCache::open(&self.0, 1, 1_000, Shortages::default()).expect("a cache")
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn module(number: u8) -> Digest {
    Digest([number; 32])
}

fn loaded(cache: &CodeCache, number: u8) -> Option<Vec<u8>> {
    cache.load(module(number)).map(|code| code.bytes().to_vec())
}

#[test]
fn what_was_stored_is_there_after_a_restart() {
    let place = TempDir::new("kept");
    assert_eq!(loaded(&place.open(), 1), None);
    place.open().store(module(1), b"code");
    place.open().store(module(1), b"newer");
    assert_eq!(loaded(&place.open(), 1).as_deref(), Some(&b"newer"[..]));
    let mode = fs::metadata(place.0.join("code.key")).expect("a key").mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_file_that_was_changed_anywhere_is_refused_and_replaced() {
    let place = TempDir::new("changed");
    let cache = place.open();
    cache.store(module(1), b"code");
    let path = cache.path(module(1));
    let whole = fs::read(&path).expect("a file");
    let mut wrong: Vec<Vec<u8>> = (0..whole.len()).map(|at| whole[..at].to_vec()).collect();
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        wrong.push(flipped);
    }
    wrong.push([&whole[..], b"more"].concat());
    wrong.push(vec![0; 2_000]);
    for bytes in wrong {
        fs::write(&path, &bytes).expect("it can be written");
        assert_eq!(loaded(&cache, 1), None, "{bytes:?}");
        assert!(!path.exists(), "what cannot be used is removed");
    }
    cache.store(module(1), b"again");
    assert_eq!(loaded(&cache, 1).as_deref(), Some(&b"again"[..]));
}

#[test]
fn what_was_made_elsewhere_or_for_something_else_is_refused() {
    let (place, other) = (TempDir::new("here"), TempDir::new("elsewhere"));
    let (cache, foreign) = (place.open(), other.open());
    foreign.store(module(1), b"code");
    fs::copy(foreign.path(module(1)), cache.path(module(1))).expect("a copy");
    assert_eq!(loaded(&cache, 1), None, "another worker's");
    cache.store(module(2), b"code");
    fs::copy(cache.path(module(2)), cache.path(module(1))).expect("a copy");
    assert_eq!(loaded(&cache, 1), None, "another module's");
    let later = CodeCache(Arc::new(Inner {
        wants: Shortages::default(),
        dir: cache.0.dir.clone(),
        key: cache.0.key.clone(),
        engine: 2,
        size_max: 1_000,
        drafts: AtomicU64::new(0),
    }));
    fs::copy(cache.path(module(2)), later.path(module(2))).expect("a copy");
    assert_eq!(loaded(&later, 2), None, "another engine's");
    assert!(loaded(&cache, 2).is_some(), "the test can fail");
    CodeCache::open(&place.0, 3, 1_000, Shortages::default()).expect("a cache");
    assert!(loaded(&cache, 2).is_none(), "another engine has no use for it");
}

#[test]
fn a_key_that_others_could_read_is_replaced() {
    use std::os::unix::fs::PermissionsExt;
    let place = TempDir::new("key");
    place.open().store(module(1), b"code");
    let path = place.0.join("code.key");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let cache = place.open();
    assert_eq!(loaded(&cache, 1), None);
    assert_eq!(fs::metadata(&path).expect("a key").mode() & 0o777, 0o600);
    cache.store(module(1), b"code");
    fs::write(&path, b"short").expect("it is ours");
    assert_eq!(loaded(&place.open(), 1), None);
}

#[test]
fn the_one_not_used_for_longest_goes_first() {
    let place = TempDir::new("room");
    let cache = place.open();
    let age = |number: u8, seconds: u64| {
        let then = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let file = File::open(cache.path(module(number))).expect("a file");
        file.set_modified(then).expect("it is ours");
    };
    // Three files of 380 bytes do not fit in 1,000.
    for number in 1..=2 {
        cache.store(module(number), &[number; 300]);
        age(number, u64::from(number));
    }
    assert!(loaded(&cache, 1).is_some(), "and it is the one used last now");
    cache.store(module(3), &[3; 300]);
    assert!(loaded(&cache, 2).is_none());
    assert!(loaded(&cache, 1).is_some() && loaded(&cache, 3).is_some());
    cache.store(module(4), &[4; 2_000]);
    assert!(loaded(&cache, 4).is_none(), "larger than all the room");
    assert!(loaded(&cache, 1).is_some() && loaded(&cache, 3).is_some());
}
