//! A supervisor's programs on a host with files: trials, and what is refused.

use super::*;
use muster_module::signing::SecretKey;
use muster_protocol::time::WallMillis;

/// A host with an installed program, whose operator trusts one key.
pub(crate) struct Host {
    dir: tempfile::TempDir,
    key: SecretKey,
}

impl Host {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("installed"), b"installed").expect("a file");
        Host { dir, key: SecretKey::generate().expect("random bytes") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn supervisor(&self) -> Programs {
        let (dir, state) = (self.path("programs"), self.path("state"));
        let signers = vec![self.key.public()];
        Programs::open(&dir, &state, None, signers, self.path("installed")).expect("it opens")
    }

    pub(crate) fn program(&self, bytes: &[u8]) -> Program {
        let signature = self.key.sign(bytes, "program:test").expect("a signature");
        Program { digest: muster_module::digest(bytes), size: bytes.len() as u64, signature }
    }

    fn upgrade(&self, number: u64, wanted: Wanted) -> Upgrade {
        Upgrade {
            worker: "w1".parse().expect("a name"),
            number,
            wanted,
            deadline_ms: 0,
            set_at: WallMillis(0),
            set_by: String::new(),
            unknown: Default::default(),
        }
    }

    /// The worker leaves this upgrade, and the supervisor takes it.
    pub(crate) fn upgraded(
        &self,
        programs: &mut Programs,
        number: u64,
        wanted: Wanted,
        bytes: &[u8],
    ) {
        let upgrade = self.upgrade(number, wanted);
        leave(&self.path("state"), &upgrade, Some(bytes)).expect("it is left");
        programs.take().expect("it can be read");
        assert!(!self.path("state/upgrade").exists(), "it is taken once");
    }

    /// The bytes of the program that would be started.
    fn starts(&self, programs: &mut Programs) -> Vec<u8> {
        fs::read(programs.path()).expect("a program")
    }
}

#[test]
fn a_program_runs_once_it_has_proven_itself_and_until_another_is_installed() {
    let host = Host::new();
    let mut programs = host.supervisor();
    assert_eq!(host.starts(&mut programs), b"installed");
    let program = host.program(b"new");
    host.upgraded(&mut programs, 3, Wanted::Program(program.clone()), b"new");
    assert!(programs.is_trying());
    assert_eq!(host.starts(&mut programs), b"new");
    let present = programs.present();
    assert_eq!((present.trial, present.report.number), (Some(3), 0));
    assert_eq!(present.report.digest, Some(program.digest));
    programs.proved();
    let present = programs.present();
    assert_eq!((present.trial, present.report.number), (None, 3));
    assert_eq!(present.kept, [program.digest]);
    assert_eq!(host.starts(&mut host.supervisor()), b"new", "also after a restart");
    fs::write(host.path("installed"), b"a package").expect("a file");
    let mut programs = host.supervisor();
    assert_eq!(host.starts(&mut programs), b"a package");
    assert_eq!((programs.present().report.digest, programs.present().kept), (None, vec![]));
    fs::write(host.path("installed"), b"installed").expect("a file");
    assert_eq!(host.starts(&mut host.supervisor()), b"installed", "it does not come back");
}

#[test]
fn a_program_is_verified_at_each_start() {
    let host = Host::new();
    let mut programs = host.supervisor();
    let program = host.program(b"new");
    host.upgraded(&mut programs, 1, Wanted::Program(program.clone()), b"new");
    programs.proved();
    assert_eq!(host.starts(&mut programs), b"new");
    let (dir, state, installed) =
        (host.path("programs"), host.path("state"), host.path("installed"));
    let mut without_key = Programs::open(&dir, &state, None, vec![], installed).expect("it opens");
    assert_eq!(host.starts(&mut without_key), b"installed", "the key is withdrawn");
    let mut programs = host.supervisor();
    host.upgraded(&mut programs, 2, Wanted::Program(program.clone()), b"new");
    programs.proved();
    let file = host.path("programs").join(name_of(&program));
    fs::remove_file(&file).expect("it is ours");
    fs::write(&file, b"forged").expect("it is ours");
    assert_eq!(host.starts(&mut programs), b"installed");
}

#[test]
fn a_trial_that_is_broken_off_begins_again_and_old_numbers_do_not() {
    let host = Host::new();
    let mut programs = host.supervisor();
    let program = host.program(b"new");
    host.upgraded(&mut programs, 5, Wanted::Program(program.clone()), b"new");
    programs.breaks_off();
    let present = host.supervisor().present();
    assert_eq!((present.trial, present.report.number, present.report.failed), (None, 0, None));
    host.upgraded(&mut programs, 5, Wanted::Program(program.clone()), b"new");
    programs.proved();
    for number in [5, 4, u64::MAX] {
        let upgrade = Upgrade { number, ..host.upgrade(1, Wanted::Program(program.clone())) };
        leave(&host.path("state"), &upgrade, None).expect("it is left");
        let error = programs.take().expect_err("it does not follow").to_string();
        assert!(error.contains("does not follow 5"), "{error}");
    }
    assert_eq!(programs.present().report.number, 5);
}

#[test]
fn a_program_that_fails_its_trial_is_followed_by_the_one_before() {
    let host = Host::new();
    let mut programs = host.supervisor();
    let one = host.program(b"one");
    host.upgraded(&mut programs, 1, Wanted::Program(one.clone()), b"one");
    programs.proved();
    host.upgraded(&mut programs, 2, Wanted::Program(host.program(b"two")), b"two");
    programs.gives_up("it ended with exit code 1");
    assert_eq!(host.starts(&mut programs), b"one");
    let present = programs.present();
    assert_eq!((present.report.number, present.report.digest), (2, Some(one.digest)));
    assert!(present.report.failed.is_some_and(|reason| reason.contains("exit code 1")));
    let two = host.path("programs").join(name_of(&host.program(b"two")));
    assert!(!two.exists(), "what failed is removed");
    // The host goes down during a trial.
    host.upgraded(&mut programs, 3, Wanted::Program(host.program(b"three")), b"three");
    let mut programs = host.supervisor();
    assert_eq!(host.starts(&mut programs), b"one");
    let report = programs.present().report;
    assert!(report.failed.is_some_and(|reason| reason.contains("crashed during the trial")));
}

#[test]
fn a_worker_goes_back_to_the_program_before_unless_it_runs_another() {
    let host = Host::new();
    let mut programs = host.supervisor();
    let (one, two) = (host.program(b"one"), host.program(b"two"));
    host.upgraded(&mut programs, 1, Wanted::Program(one.clone()), b"one");
    programs.proved();
    host.upgraded(&mut programs, 2, Wanted::Program(two.clone()), b"two");
    programs.proved();
    host.upgraded(&mut programs, 3, Wanted::Before(one.digest), b"");
    assert!(programs.present().report.failed.is_some_and(|reason| reason.contains("does not run")));
    assert_eq!(host.starts(&mut programs), b"two");
    host.upgraded(&mut programs, 4, Wanted::Before(two.digest), b"");
    assert_eq!(host.starts(&mut programs), b"one", "and nothing was fetched");
    programs.proved();
    assert_eq!(programs.present().report.failed, None);
    host.upgraded(&mut programs, 5, Wanted::Program(two), b"");
    assert_eq!(host.starts(&mut programs), b"two", "it is kept");
}

#[test]
fn what_no_accepted_key_has_signed_does_not_run() {
    let host = Host::new();
    let mut programs = host.supervisor();
    let good = host.program(b"new");
    let other = SecretKey::generate().expect("random bytes");
    let signed = |key: &SecretKey, bytes: &[u8], comment: &str| Program {
        signature: key.sign(bytes, comment).expect("a signature"),
        ..good.clone()
    };
    let forged = SecretKey::read(&other.text()).expect("a key");
    for (number, program, bytes, why) in [
        (1, good.clone(), &b"bad"[..], "are not sha256:"),
        (2, signed(&forged, b"new", "program:x"), b"new", "is not one of --upgrade-signer"),
        (3, signed(&host.key, b"bad", "program:x"), b"new", "is not valid"),
        (4, signed(&host.key, b"new", "module:x"), b"new", "is not that of a program"),
    ] {
        host.upgraded(&mut programs, number, Wanted::Program(program), bytes);
        let report = programs.present().report;
        assert_eq!(report.number, number);
        let failed = report.failed.expect("a reason");
        assert!(failed.contains(why), "{failed}");
        assert_eq!(host.starts(&mut programs), b"installed");
    }
}

#[test]
fn a_worker_cannot_write_where_its_programs_are() {
    let host = Host::new();
    for (dir, state, ready) in [
        ("state/programs", "state", None),
        ("programs", "programs/state", None),
        ("x", "x", None),
        ("run/programs", "state", Some("run/ready")),
    ] {
        fs::create_dir_all(host.path("run")).expect("a directory");
        let (dir, ready) = (host.path(dir), ready.map(|ready| host.path(ready)));
        let opened = Programs::open(&dir, &host.path(state), ready.as_deref(), vec![], "x".into());
        assert!(opened.expect_err("not apart").to_string().contains("have to be apart"));
    }
    // The worker leaves a link to a file that it may not read itself.
    let mut programs = host.supervisor();
    fs::create_dir_all(host.path("state/upgrade")).expect("a directory");
    let secret = host.path("installed");
    std::os::unix::fs::symlink(secret, host.path("state/upgrade/upgrade.json")).expect("a link");
    let error = format!("{:#}", programs.take().expect_err("a link"));
    assert!(error.contains("cannot be read"), "{error}");
}
