//! Finds the export that is called to run a validated file. Never guesses: an export with the right name
//! and the wrong type is refused, not skipped.

use crate::{Kind, ModuleRefusal, World, scan::Scan};
use wasmparser::{
    Encoding, ExternalKind, PrimitiveValType,
    component_types::{ComponentDefinedType, ComponentEntityType, ComponentValType},
    types::Types,
};

/// How a scanned file is run, or why it cannot be.
pub(crate) fn kind(scan: &Scan) -> Result<Kind, ModuleRefusal> {
    match scan.encoding {
        Encoding::Module if scan.has_world => Ok(Kind::SdkCore),
        Encoding::Module => command(scan),
        Encoding::Component => component(scan),
    }
}

fn command(scan: &Scan) -> Result<Kind, ModuleRefusal> {
    let expected = "a function without parameters and results";
    let wrong = Err(ModuleRefusal::WrongEntry { name: "_start", expected });
    match scan.start {
        Some((ExternalKind::Func, index)) => {
            let types = scan.types.as_ref();
            let entry = types[types.core_function_at(index)].unwrap_func();
            let plain = entry.params().is_empty() && entry.results().is_empty();
            if plain { Ok(Kind::Command) } else { wrong }
        }
        Some(_) => wrong,
        None => {
            let advice = if scan.exports.iter().any(|name| name == "_initialize") {
                "it is a library; build a program with `main`, or use the SDK"
            } else {
                "build a program with `main` for wasm32-wasip1, or use the SDK"
            };
            Err(no_entry("a core module must export `_start`", advice, &scan.exports))
        }
    }
}

fn component(scan: &Scan) -> Result<Kind, ModuleRefusal> {
    if let Some(item) = scan.types.as_ref().component_item_for_export("run") {
        return if is_task(&scan.types, item.ty) {
            Ok(Kind::Component { world: World::Task })
        } else {
            let expected = "func(input: list<u8>) -> result<list<u8>, string>";
            Err(ModuleRefusal::WrongEntry { name: "run", expected })
        };
    }
    let is_program = |name: &String| name.starts_with("wasi:cli/run@0.2.");
    if scan.exports.iter().any(is_program) {
        return Ok(Kind::Component { world: World::CommandRun });
    }
    let wanted = "a component must export `wasi:cli/run@0.2.x`, or `run` of the world muster:task";
    Err(no_entry(wanted, "build it for one of these", &scan.exports))
}

fn no_entry(wanted: &str, advice: &str, exports: &[String]) -> ModuleRefusal {
    /// Exports that an error shows: enough to recognise what was built instead.
    const SHOWN_MAX: usize = 5;
    let shown: Vec<&str> = exports.iter().take(SHOWN_MAX).map(String::as_str).collect();
    let found = match shown.is_empty() {
        true => "nothing".into(),
        false if exports.len() > SHOWN_MAX => format!("{}, …", shown.join(", ")),
        false => shown.join(", "),
    };
    ModuleRefusal::NoEntry { hint: format!("{wanted}, this one exports {found}; {advice}") }
}

/// Whether `entity` is `func(list<u8>) -> result<list<u8>, string>`.
fn is_task(types: &Types, entity: ComponentEntityType) -> bool {
    let ComponentEntityType::Func(id) = entity else { return false };
    let function = &types[id];
    let [(_, input)] = &function.params[..] else { return false };
    let Some(ComponentValType::Type(result)) = function.result else { return false };
    let ComponentDefinedType::Result { ok: Some(ok), err: Some(err), .. } = &types[result] else {
        return false;
    };
    !function.async_
        && is_bytes(types, *input)
        && is_bytes(types, *ok)
        && is_primitive(types, *err, PrimitiveValType::String)
}

fn is_bytes(types: &Types, ty: ComponentValType) -> bool {
    let ComponentValType::Type(id) = ty else { return false };
    let ComponentDefinedType::List { element, .. } = &types[id] else { return false };
    is_primitive(types, *element, PrimitiveValType::U8)
}

fn is_primitive(types: &Types, ty: ComponentValType, wanted: PrimitiveValType) -> bool {
    match ty {
        ComponentValType::Primitive(found) => found == wanted,
        ComponentValType::Type(id) => {
            matches!(&types[id], ComponentDefinedType::Primitive(found) if *found == wanted)
        }
    }
}
