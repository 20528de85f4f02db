//! The kinds of Wasm files. Never how the kind is found out.

/// The kind of a Wasm file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A core module that exports `_start`, as `wasm32-wasip1` programs do. Standard input is the task's
    /// input, standard output its output, and the exit code decides the outcome.
    Command,
    /// A component.
    Component {
        /// The entry point that it exports.
        world: World,
    },
    /// A core module built against the SDK or another WIT world: it cannot run before
    /// [`to_component`](crate::to_component) has made it a component.
    SdkCore,
}

impl Kind {
    /// Whether it cannot run before [`to_component`](crate::to_component) has made a component of it.
    pub fn needs_component(self) -> bool {
        self == Kind::SdkCore
    }
}

/// `module` or `component`, as in listings.
impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Command | Kind::SdkCore => "module",
            Kind::Component { .. } => "component",
        })
    }
}

/// The entry point that a component exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// `wasi:cli/run`: a program, treated like [`Kind::Command`].
    CommandRun,
    /// `run: func(list<u8>) -> result<list<u8>, string>`, as in the SDK's world `muster:task`.
    Task,
}
