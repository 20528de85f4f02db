//! The imports that a guest may have. Never more than a worker links; the worker's tests compare the
//! two.

use crate::ModuleRefusal;

/// The core module name under which WASI preview 1 is imported.
pub const PREVIEW1_MODULE: &str = "wasi_snapshot_preview1";

/// Every function of WASI preview 1 (its `.witx`). `wasmtime-wasi` links all of them. An import grants
/// nothing: without a directory or a socket, the function returns an error number.
#[rustfmt::skip]
pub const PREVIEW1_FUNCTIONS: &[&str] = &[
    "args_get", "args_sizes_get", "environ_get", "environ_sizes_get", "clock_res_get",
    "clock_time_get", "fd_advise", "fd_allocate", "fd_close", "fd_datasync", "fd_fdstat_get",
    "fd_fdstat_set_flags", "fd_fdstat_set_rights", "fd_filestat_get", "fd_filestat_set_size",
    "fd_filestat_set_times", "fd_pread", "fd_prestat_get", "fd_prestat_dir_name", "fd_pwrite",
    "fd_read", "fd_readdir", "fd_renumber", "fd_seek", "fd_sync", "fd_tell", "fd_write",
    "path_create_directory", "path_filestat_get", "path_filestat_set_times", "path_link",
    "path_open", "path_readlink", "path_remove_directory", "path_rename", "path_symlink",
    "path_unlink_file", "poll_oneoff", "proc_exit", "proc_raise", "sched_yield", "random_get",
    "sock_accept", "sock_recv", "sock_send", "sock_shutdown",
];

/// The interfaces of WASI 0.2 that workers link, without their versions: any `0.2.x`.
#[rustfmt::skip]
pub const WASI_INTERFACES: &[&str] = &[
    "wasi:cli/environment", "wasi:cli/exit", "wasi:cli/stdin", "wasi:cli/stdout",
    "wasi:cli/stderr", "wasi:cli/terminal-input", "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin", "wasi:cli/terminal-stdout", "wasi:cli/terminal-stderr",
    "wasi:clocks/monotonic-clock", "wasi:clocks/wall-clock", "wasi:filesystem/preopens",
    "wasi:filesystem/types", "wasi:http/outgoing-handler", "wasi:http/types", "wasi:io/error", "wasi:io/poll", "wasi:io/streams",
    "wasi:random/insecure", "wasi:random/insecure-seed", "wasi:random/random",
    "wasi:sockets/instance-network", "wasi:sockets/ip-name-lookup", "wasi:sockets/network",
    "wasi:sockets/tcp", "wasi:sockets/tcp-create-socket", "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// The interfaces of the SDK, without their versions: any `0.1.x`.
pub const SDK_INTERFACES: &[&str] = &["muster:task/host"];

/// The origin of well-known foreign imports, by the prefix of their names.
const ORIGINS: &[(&str, &str)] = &[
    ("wasi_unstable.", "it was compiled for WASI of before 2020; use a newer toolchain"),
    ("__wbindgen", "it was compiled for browsers (wasm-bindgen); compile for wasm32-wasip1"),
    ("wbg.", "it was compiled for browsers (wasm-bindgen); compile for wasm32-wasip1"),
    ("gojs.", "it was compiled for browsers; use GOOS=wasip1 GOARCH=wasm"),
    ("go.", "it was compiled for browsers; use GOOS=wasip1 GOARCH=wasm"),
    ("a.", "it was compiled by Emscripten for browsers; use wasi-sdk, or -sSTANDALONE_WASM"),
    (
        "wasi:http/incoming-handler",
        "a task is not a server; it may send requests if it is allowed to",
    ),
    ("wasi:keyvalue/", "workers give guests no key-value store"),
];

/// Refuses an import of a core module that no worker provides.
pub(crate) fn check_core(module: &str, field: &str) -> Result<(), ModuleRefusal> {
    if module == PREVIEW1_MODULE && PREVIEW1_FUNCTIONS.contains(&field) {
        return Ok(());
    }
    let known = format!("core modules may import the functions of {PREVIEW1_MODULE} only");
    Err(unknown(format!("{module}.{field}"), known))
}

/// Refuses an import of a component that no worker provides.
pub(crate) fn check_interface(name: &str) -> Result<(), ModuleRefusal> {
    let known = name.split_once('@').is_some_and(|(path, version)| {
        (WASI_INTERFACES.contains(&path) && is_patch_of(version, "0.2."))
            || (SDK_INTERFACES.contains(&path) && is_patch_of(version, "0.1."))
    });
    if known {
        return Ok(());
    }
    let known = "components may import wasi:{cli,clocks,filesystem,http,io,random,sockets}/…@0.2.x \
                 and muster:task/host@0.1.x";
    Err(unknown(name.into(), known.into()))
}

/// Refuses an import that no worker provides, of a core module that is to become a component. The
/// import's module is the interface of the function.
pub(crate) fn check_sdk_core(module: &str, field: &str) -> Result<(), ModuleRefusal> {
    if module.contains(':') { check_interface(module) } else { check_core(module, field) }
}

fn is_patch_of(version: &str, track: &str) -> bool {
    version
        .strip_prefix(track)
        .is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|b| b.is_ascii_digit()))
}

fn unknown(name: String, known: String) -> ModuleRefusal {
    let origin = ORIGINS.iter().find(|(begin, _)| name.starts_with(begin));
    let hint = origin.map_or(known, |(_, origin)| (*origin).into());
    ModuleRefusal::UnknownImport { name, hint }
}
