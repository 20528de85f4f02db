//! The files of the system that a worker reads, by name. Never a directory in which other programs keep
//! files of their own.

use landlock::PathFd;
use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// Files and directories that are the same on every host, as far as it has them.
const NAMED: [&str; 36] = [
    // Libraries, including those that name resolution loads later.
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/ld-musl-x86_64.path",
    "/etc/ld-musl-aarch64.path",
    // Name resolution.
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    // The time zone.
    "/etc/localtime",
    // Certificates of authorities, where distributions keep them. No directory of private keys.
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted",
    "/etc/ca-certificates/extracted",
    "/var/lib/ca-certificates",
    "/opt/etc/ssl/certs",
    // This process. What other processes are called and were started with is not to be read.
    OWN,
    // This boot, and what the allocators ask.
    "/proc/sys/kernel/random/boot_id",
    "/proc/sys/vm/overcommit_memory",
    "/proc/meminfo",
    "/proc/pressure",
    // How many processors and how much memory this process may use.
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
    "/sys/kernel/mm/transparent_hugepage",
    "/dev/urandom",
    "/dev/random",
];

/// This process in `/proc`.
const OWN: &str = "/proc/self";

/// Directories of the programs that write the target of the symbolic link `/etc/resolv.conf`. They replace
/// the file, so the rule is for the directory.
const LINKED: [&str; 5] = [
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/run/connman",
    "/run/netconfig",
];

/// What name resolution reads again when it has changed.
const RESOLVER: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"];

/// Variables that name another place for certificates of authorities.
const CERTIFICATES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The files, as far as this host may have them.
pub(super) fn files() -> Vec<PathBuf> {
    let named = NAMED.iter().map(PathBuf::from);
    let elsewhere = CERTIFICATES.iter().filter_map(|name| std::env::var_os(name).map(Into::into));
    let target = fs::canonicalize(RESOLVER[0]).unwrap_or_default();
    let linked = LINKED.iter().filter(|dir| target.starts_with(dir)).map(PathBuf::from);
    named.chain(elsewhere).chain(linked).collect()
}

/// Keeps `/proc/self` as it is: a rule belongs to an inode, and the kernel would make another one for this
/// directory after it has dropped it for lack of memory.
pub(super) fn pin() {
    static PINNED: OnceLock<Option<PathFd>> = OnceLock::new();
    PINNED.get_or_init(|| PathFd::new(OWN).ok());
}

/// The files of name resolution to look at again: those that are readable now, or missing. A rule belongs
/// to an inode, so a file that is put in the place of another cannot be read by a confined process.
pub(super) fn resolver() -> Vec<PathBuf> {
    RESOLVER.map(PathBuf::from).into_iter().filter(|path| !is_denied(path)).collect()
}

/// Whether a file exists that this process may not read.
pub(super) fn is_denied(path: &Path) -> bool {
    File::open(path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}
