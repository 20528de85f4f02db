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
        Programs::open(&dir, &state, signers, self.path("installed")).expect("it opens")
    }

    pub(crate) fn program(&self, bytes: &[u8]) -> Program {
        let signature = self.key.sign(bytes, "program:test").expect("a signature");
        Program { digest: muster_module::digest(bytes), size: bytes.len() as u64, signature }
    }

    /// The worker leaves this upgrade, and the supervisor takes it.
    pub(crate) fn upgraded(
        &self,
        programs: &mut Programs,
        number: u64,
        wanted: Wanted,
        bytes: &[u8],
    ) {
        let upgrade = Upgrade {
            worker: "w1".parse().expect("a name"),
            number,
            wanted,
            deadline_ms: 0,
            set_at: WallMillis(0),
            set_by: String::new(),
            unknown: Default::default(),
        };
        leave(&self.path("state"), &upgrade, Some(bytes)).expect("it is left");
        programs.take().expect("the directory is writable");
        assert!(!self.path("state/upgrade").exists(), "it is taken once");
    }

    pub(crate) fn present(&self) -> Present {
        Present::read(&self.path("programs")).expect("notes")
    }

    /// The bytes of the program that would be started.
    fn starts(&self, programs: &Programs) -> Vec<u8> {
        fs::read(programs.path()).expect("a program")
    }
}

#[test]
fn a_program_runs_once_it_has_proven_itself_and_until_another_is_installed() {
    let host = Host::new();
    let mut programs = host.supervisor();
    assert_eq!(host.starts(&programs), b"installed");
    let program = host.program(b"new");
    host.upgraded(&mut programs, 3, Wanted::Program(program.clone()), b"new");
    assert!(programs.is_trying());
    assert_eq!(host.starts(&programs), b"new");
    let present = host.present();
    assert_eq!((present.trial, present.report.number), (Some(3), 0));
    assert_eq!(present.report.digest, Some(program.digest));
    programs.proved().expect("it is noted");
    let present = host.present();
    assert_eq!((present.trial, present.report.number), (None, 3));
    assert_eq!(present.kept, [program.digest]);
    assert_eq!(host.starts(&host.supervisor()), b"new", "also after a restart");
    fs::write(host.path("installed"), b"a package").expect("a file");
    assert_eq!(host.starts(&host.supervisor()), b"a package");
}

#[test]
fn a_program_that_fails_its_trial_is_followed_by_the_one_before() {
    let host = Host::new();
    let mut programs = host.supervisor();
    let one = host.program(b"one");
    host.upgraded(&mut programs, 1, Wanted::Program(one.clone()), b"one");
    programs.proved().expect("it is noted");
    host.upgraded(&mut programs, 2, Wanted::Program(host.program(b"two")), b"two");
    programs.gives_up("it ended with exit code 1").expect("it is noted");
    assert_eq!(host.starts(&programs), b"one");
    let present = host.present();
    assert_eq!((present.report.number, present.report.digest), (2, Some(one.digest)));
    assert!(present.report.failed.is_some_and(|reason| reason.contains("exit code 1")));
    let two = host.path("programs").join(name_of(&host.program(b"two")));
    assert!(!two.exists(), "what failed is removed");
    // The host goes down during a trial.
    host.upgraded(&mut programs, 3, Wanted::Program(host.program(b"three")), b"three");
    let programs = host.supervisor();
    assert_eq!(host.starts(&programs), b"one");
    let report = host.present().report;
    assert!(report.failed.is_some_and(|reason| reason.contains("ended during the trial")));
}

#[test]
fn a_worker_goes_back_to_the_program_before_unless_it_runs_another() {
    let host = Host::new();
    let mut programs = host.supervisor();
    let (one, two) = (host.program(b"one"), host.program(b"two"));
    host.upgraded(&mut programs, 1, Wanted::Program(one.clone()), b"one");
    programs.proved().expect("it is noted");
    host.upgraded(&mut programs, 2, Wanted::Program(two.clone()), b"two");
    programs.proved().expect("it is noted");
    host.upgraded(&mut programs, 3, Wanted::Before(one.digest), b"");
    assert!(host.present().report.failed.is_some_and(|reason| reason.contains("does not run")));
    assert_eq!(host.starts(&programs), b"two");
    host.upgraded(&mut programs, 4, Wanted::Before(two.digest), b"");
    assert_eq!(host.starts(&programs), b"one", "and nothing was fetched");
    programs.proved().expect("it is noted");
    assert_eq!(host.present().report.failed, None);
    host.upgraded(&mut programs, 5, Wanted::Program(two), b"");
    assert_eq!(host.starts(&programs), b"two", "it is kept");
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
        let report = host.present().report;
        assert_eq!(report.number, number);
        let failed = report.failed.expect("a reason");
        assert!(failed.contains(why), "{failed}");
        assert_eq!(host.starts(&programs), b"installed");
    }
}

#[test]
fn a_worker_cannot_write_where_its_programs_are() {
    let host = Host::new();
    for (dir, state) in [("state/programs", "state"), ("programs", "programs/state"), ("x", "x")] {
        let opened = Programs::open(&host.path(dir), &host.path(state), vec![], "x".into());
        assert!(opened.expect_err(dir).to_string().contains("have to be apart"));
    }
    // The worker leaves a link to a file that it may not read itself.
    let mut programs = host.supervisor();
    fs::create_dir_all(host.path("state/upgrade")).expect("a directory");
    let secret = host.path("installed");
    std::os::unix::fs::symlink(secret, host.path("state/upgrade/upgrade.json")).expect("a link");
    let error = format!("{:#}", programs.take().expect_err("a link"));
    assert!(error.contains("cannot be read"), "{error}");
}
