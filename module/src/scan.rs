//! One pass over a Wasm file: validates it, counts its parts, and lists its outer imports and exports.
//! Never keeps more than a few names per import, and never interprets code.

use crate::{ModuleRefusal, features::features, known};
use wasmparser::{
    ComponentExternalKind, ComponentTypeRef, Encoding, ExternalKind, FuncValidatorAllocations,
    Parser, Payload, TypeBounds, TypeRef, ValidPayload, Validator, types::Types,
};

/// The most functions of a file, including nested modules. The largest guests tried are JavaScript
/// (12 MB) and Python (18 MB) with their interpreters: 13,000 functions each. Small functions of 300
/// bytes, as Go has them, fill the 64 MiB of a file with this many.
pub const FUNCTIONS_MAX: u64 = 200_000;

/// The most imports of a file, including nested modules. A host has under 200 to give. The rest are
/// imports between a guest's own libraries: 2,300 in Python.
pub const IMPORTS_MAX: u64 = 20_000;

/// The most types of a file, including nested modules. Python has 1,200. All guests of a worker share
/// one type registry.
pub const TYPES_MAX: u64 = 20_000;

/// The largest body of one function, in bytes. Compile time grows faster than linearly with it. The
/// largest body seen, Python's interpreter loop, has 430 KB; the validator alone would allow 7.6 MB.
pub const FUNCTION_SIZE_MAX: u64 = 2 * 1024 * 1024;

/// The custom section in which a toolchain stores the WIT world of a core module.
const WORLD_SECTION: &str = "component-type";

/// The results of one pass.
pub(crate) struct Scan {
    pub encoding: Encoding,
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    /// The kind and index of a core module's export `_start`.
    pub start: Option<(ExternalKind, u32)>,
    pub has_world: bool,
    /// The outer module's or component's types.
    pub types: Types,
}

#[derive(Default)]
struct Counts {
    functions: u64,
    imports: u64,
    types: u64,
}

#[derive(Default)]
struct Outer<'a> {
    encoding: Option<Encoding>,
    core_imports: Vec<(&'a str, &'a str, TypeRef)>,
    interfaces: Vec<(&'a str, ComponentTypeRef)>,
    exports: Vec<String>,
    start: Option<(ExternalKind, u32)>,
    has_world: bool,
}

/// Validates `bytes` with exactly [`features`] and within the limits above.
pub(crate) fn scan(bytes: &[u8]) -> Result<Scan, ModuleRefusal> {
    let mut parser = Parser::new(0);
    parser.set_features(features());
    let mut validator = Validator::new_with_features(features());
    let mut scratch = FuncValidatorAllocations::default();
    let mut counts = Counts::default();
    let mut outer = Outer::default();
    let mut depth = 0usize;
    let mut types = None;
    for payload in parser.parse_all(bytes) {
        let payload = payload?;
        counts.add(&payload)?;
        if let Payload::Version { encoding, .. } = &payload {
            depth += 1;
            outer.encoding.get_or_insert(*encoding);
        }
        if depth == 1 {
            outer.read(&payload)?;
        }
        match validator.payload(&payload)? {
            ValidPayload::Func(function, body) => {
                let mut function = function.into_validator(scratch);
                function.validate(&body)?;
                scratch = function.into_allocations();
            }
            ValidPayload::End(ended) => {
                depth -= 1;
                types = Some(ended);
            }
            ValidPayload::Ok | ValidPayload::Parser(_) => {}
        }
    }
    // The last end is that of the outermost module or component.
    let (Some(types), Some(encoding)) = (types, outer.encoding) else {
        return Err(ModuleRefusal::Invalid {
            message: "it ends too early".into(),
            offset: bytes.len(),
        });
    };
    let imports = outer.checked_imports()?;
    let Outer { exports, start, has_world, .. } = outer;
    Ok(Scan { encoding, imports, exports, start, has_world, types })
}

impl Counts {
    fn add(&mut self, payload: &Payload<'_>) -> Result<(), ModuleRefusal> {
        match payload {
            Payload::CodeSectionStart { count, .. } => {
                self.functions += u64::from(*count);
                within("functions", self.functions, FUNCTIONS_MAX)
            }
            Payload::CodeSectionEntry(body) => {
                within("bytes in one function", body.range().len() as u64, FUNCTION_SIZE_MAX)
            }
            Payload::ImportSection(section) => self.add_imports(section.count()),
            Payload::ComponentImportSection(section) => self.add_imports(section.count()),
            Payload::TypeSection(section) => self.add_types(section.count()),
            Payload::CoreTypeSection(section) => self.add_types(section.count()),
            Payload::ComponentTypeSection(section) => self.add_types(section.count()),
            _ => Ok(()),
        }
    }

    fn add_imports(&mut self, count: u32) -> Result<(), ModuleRefusal> {
        self.imports += u64::from(count);
        within("imports", self.imports, IMPORTS_MAX)
    }

    fn add_types(&mut self, count: u32) -> Result<(), ModuleRefusal> {
        self.types += u64::from(count);
        within("types", self.types, TYPES_MAX)
    }
}

fn within(what: &'static str, count: u64, max: u64) -> Result<(), ModuleRefusal> {
    if count > max { Err(ModuleRefusal::OverLimit { what, count, max }) } else { Ok(()) }
}

impl<'a> Outer<'a> {
    fn read(&mut self, payload: &Payload<'a>) -> Result<(), ModuleRefusal> {
        match payload {
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    let import = import?;
                    self.core_imports.push((import.module, import.name, import.ty));
                }
            }
            Payload::ExportSection(section) => {
                for export in section.clone() {
                    let export = export?;
                    self.exports.push(export.name.into());
                    if export.name == "_start" {
                        self.start = Some((export.kind, export.index));
                    }
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section.clone() {
                    let import = import?;
                    self.interfaces.push((import.name.name, import.ty));
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    let export = export?;
                    if export.kind != ComponentExternalKind::Type {
                        self.exports.push(export.name.name.into());
                    }
                }
            }
            Payload::CustomSection(section) if section.name().starts_with(WORLD_SECTION) => {
                self.has_world = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// The names of all imports, after checking that workers provide each of them.
    fn checked_imports(&self) -> Result<Vec<String>, ModuleRefusal> {
        let mut names = Vec::new();
        for &(module, field, ty) in &self.core_imports {
            let name = format!("{module}.{field}");
            if let Some(what) = state(ty) {
                return Err(ModuleRefusal::ImportedState { name, what });
            }
            // Only a core module has imports here. A component's own world section only records how it
            // was made.
            match self.has_world {
                true => known::check_sdk_core(module, field)?,
                false => known::check_core(module, field)?,
            }
            names.push(name);
        }
        for &(name, ty) in &self.interfaces {
            match ty {
                ComponentTypeRef::Instance(_) => known::check_interface(name)?,
                // A name for a known type asks nothing of the host.
                ComponentTypeRef::Type(TypeBounds::Eq(_)) => continue,
                _ => return Err(known::check_interface(name).err().unwrap_or_else(|| bare(name))),
            }
            names.push(name.into());
        }
        Ok(names)
    }
}

fn bare(name: &str) -> ModuleRefusal {
    let hint = "it must be imported as an interface".into();
    ModuleRefusal::UnknownImport { name: name.into(), hint }
}

fn state(ty: TypeRef) -> Option<&'static str> {
    match ty {
        TypeRef::Func(_) | TypeRef::FuncExact(_) => None,
        TypeRef::Table(_) => Some("table"),
        TypeRef::Memory(_) => Some("memory"),
        TypeRef::Global(_) => Some("global"),
        TypeRef::Tag(_) => Some("tag"),
    }
}
