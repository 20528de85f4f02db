//! The grants that a module may need, by its imports. Never refuses: an import shows what a module can
//! request, not that it will.

use crate::{PREVIEW1_MODULE, scan::Scan};
use wasmparser::component_types::ComponentEntityType;

/// A capability that a module may use beyond its input, its output and coarse clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// The option that grants it; `None` where no task is ever granted it.
    pub grant: Option<&'static str>,
    /// What the module does with it, and what happens without it.
    pub what: &'static str,
    /// WASI 0.2 interfaces that show the need, each with functions of which one must be imported. An
    /// empty list means any function.
    interfaces: &'static [(&'static str, &'static [&'static str])],
    /// Prefixes of WASI preview 1 functions that show the need.
    preview1: &'static [&'static str],
}

/// All needs. Imports that toolchains add without use do not count, where that can be told: every C
/// program looks for preopened directories, but only some open a file.
const NEEDS: &[Need] = &[
    Need {
        grant: Some("--allow-http HOST"),
        what: "sends HTTP requests; without it they are denied",
        interfaces: &[("wasi:http/outgoing-handler", &[])],
        preview1: &[],
    },
    Need {
        grant: Some("--dir SIZE"),
        what: "opens files; without it there are no files",
        interfaces: &[("wasi:filesystem/types", &["[method]descriptor.open-at"])],
        preview1: &["path_"],
    },
    Need {
        grant: Some("--random"),
        what: "takes random numbers; without it they follow from the task's id and are not secret",
        interfaces: &[("wasi:random/random", &[])],
        preview1: &["random_get"],
    },
    Need {
        grant: None,
        what: "opens sockets, which no task is granted; such calls fail",
        interfaces: &[
            ("wasi:sockets/tcp-create-socket", &[]),
            ("wasi:sockets/udp-create-socket", &[]),
            ("wasi:sockets/ip-name-lookup", &[]),
        ],
        preview1: &["sock_"],
    },
];

/// The needs that the imports of a scanned file show.
pub(crate) fn needs(scan: &Scan) -> Vec<Need> {
    let is_asked = |need: &&Need| scan.imports.iter().any(|import| asks(scan, import, need));
    NEEDS.iter().filter(is_asked).copied().collect()
}

fn asks(scan: &Scan, import: &str, need: &Need) -> bool {
    if let Some(function) = import.strip_prefix(PREVIEW1_MODULE).and_then(|f| f.strip_prefix('.')) {
        return need.preview1.iter().any(|begin| function.starts_with(begin));
    }
    // A core module of the SDK imports `interface@version.function`; a component imports whole
    // interfaces.
    let Some((path, rest)) = import.split_once('@') else { return false };
    let Some((_, functions)) = need.interfaces.iter().find(|(interface, _)| *interface == path)
    else {
        return false;
    };
    let is_core = scan.types.as_ref().component_item_for_import(import).is_none();
    functions.is_empty()
        || functions.iter().any(|function| match is_core {
            true => rest.ends_with(function),
            false => has_function(scan, import, function),
        })
}

/// Whether the imported interface contains the function. Encoders leave out unused functions.
fn has_function(scan: &Scan, interface: &str, function: &str) -> bool {
    let types = scan.types.as_ref();
    let item = types.component_item_for_import(interface);
    let Some(ComponentEntityType::Instance(id)) = item.map(|item| item.ty) else { return false };
    types[id].exports.contains_key(function)
}
