//! The paths of what tests need: the built programs, the guests, nats-server. Never builds them; a
//! missing one panics with the command that builds it.

use std::path::{Path, PathBuf};

/// The environment variable that names another program for the workers of a fleet.
const OTHER_WORKER: &str = "MUSTER_TEST_WORKER";

/// The root of the work tree.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the work tree").into()
}

/// A program that this workspace builds.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test is a file");
    // target/PROFILE/deps/test-… or target/PROFILE/program.
    let path =
        test.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file());
    path.unwrap_or_else(|| panic!("{name} is not built: run `make build`"))
}

/// Another build of the worker's program, if a test is to use one: the tests that judge mutants do.
pub fn other_worker() -> Option<PathBuf> {
    std::env::var_os(OTHER_WORKER).map(PathBuf::from)
}

/// A guest of `examples/`.
pub fn guest(name: &str) -> PathBuf {
    let path = root().join(format!(".muster/guests/{name}.wasm"));
    assert!(path.is_file(), "the guest {name} is not built: run `setup/guests`");
    path
}

/// nats-server, as `setup/nats-server` finds or fetches it.
pub fn nats_server() -> PathBuf {
    let found = std::process::Command::new(root().join("setup/nats-server")).output();
    let found = found.expect("setup/nats-server runs");
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    PathBuf::from(String::from_utf8(found.stdout).expect("a path in UTF-8").trim())
}
