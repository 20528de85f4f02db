//! A seccomp filter on sockets: a confined thread makes TCP and UDP sockets that listen to nobody, and no
//! others. Never a list of all the system calls that a worker may make, which depends on its libraries.
//!
//! Landlock restricts TCP, and only where `connect` and `bind` say so. This filter closes the other ways
//! to reach a program: Unix sockets by their path, netlink, protocols beside TCP and UDP, and the calls
//! that connect or listen without those two.

use nix::libc::{self, c_long};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter,
};
use std::{collections::BTreeMap, env::consts::ARCH};

/// The part of the second argument of `socket` that is the type: `SOCK_TYPE_MASK` in Linux.
const TYPE: u64 = 0xf;

/// Types of sockets that exist in Linux beside streams and datagrams: raw, RDM, SEQPACKET, DCCP, packet.
const OTHER_TYPES: [u64; 5] = [3, 4, 5, 6, 10];

/// Types that make an unconnected Unix socket, which can send to a path: datagrams, and raw, which means
/// the same there.
const DATAGRAMS: [u64; 2] = [2, 3];

/// The bit that marks system calls of the x32 ABI. A kernel may have it beside x86-64, with the same
/// numbers except for some from 512 on.
const X32: i64 = 0x4000_0000;
const X32_SENDMSG: i64 = X32 + 518;
const X32_SENDMMSG: i64 = X32 + 538;

/// Sets the filter for this thread and for all that it will start. False if the kernel or the
/// architecture has no such filters.
pub(super) fn close() -> bool {
    let Some(program) = program() else { return false };
    apply_filter(&program).is_ok()
}

fn program() -> Option<BpfProgram> {
    let arch = TargetArch::try_from(ARCH).ok()?;
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules()?, SeccompAction::Allow, refuse, arch);
    filter.ok()?.try_into().ok()
}

/// What is refused: each system call with the rules of which one must match. No rules: always refused.
fn rules() -> Option<BTreeMap<i64, Vec<SeccompRule>>> {
    let fast = u64::try_from(libc::MSG_FASTOPEN).ok()?;
    let connects = |flags: u8| vec![vec![is(flags, SeccompCmpOp::MaskedEq(fast), fast)]];
    let socket = [
        vec![not(0, libc::AF_INET), not(0, libc::AF_INET6)],
        vec![not(2, 0), not(2, libc::IPPROTO_TCP), not(2, libc::IPPROTO_UDP)],
    ];
    let socket = socket.into_iter().chain(OTHER_TYPES.map(|kind| vec![of_type(kind)])).collect();
    let pair = std::iter::once(vec![not(0, libc::AF_UNIX)]);
    let pair = pair.chain(DATAGRAMS.map(|kind| vec![of_type(kind)])).collect();
    let calls: [(c_long, Vec<Vec<Condition>>); 7] = [
        (libc::SYS_socket, socket),
        (libc::SYS_socketpair, pair),
        (libc::SYS_sendto, connects(3)),
        (libc::SYS_sendmsg, connects(2)),
        (libc::SYS_sendmmsg, connects(3)),
        // A socket that listens without `bind` gets a port from the kernel.
        (libc::SYS_listen, Vec::new()),
        // It makes and connects sockets without these system calls.
        (libc::SYS_io_uring_setup, Vec::new()),
    ];
    let mut rules = BTreeMap::new();
    for (call, refused) in calls {
        let refused: Option<Vec<SeccompRule>> = refused
            .into_iter()
            .map(|all| SeccompRule::new(all.into_iter().collect::<Option<_>>()?).ok())
            .collect();
        let refused = refused?;
        if ARCH == "x86_64" {
            let same = match call {
                libc::SYS_sendmsg => X32_SENDMSG,
                libc::SYS_sendmmsg => X32_SENDMMSG,
                call => X32 + call,
            };
            rules.insert(same, refused.clone());
        }
        rules.insert(call, refused);
    }
    Some(rules)
}

/// A condition on one argument; `None` if there is no such argument.
type Condition = Option<SeccompCondition>;

fn is(argument: u8, how: SeccompCmpOp, value: u64) -> Condition {
    SeccompCondition::new(argument, Dword, how, value).ok()
}

fn not(argument: u8, value: i32) -> Condition {
    is(argument, SeccompCmpOp::Ne, u64::try_from(value).ok()?)
}

fn of_type(kind: u64) -> Condition {
    is(1, SeccompCmpOp::MaskedEq(TYPE), kind)
}
