//! Components made by hand, for what no compiler would make.

use std::path::{Path, PathBuf};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

/// Writes a component of wasi:http 0.2 whose core module is this text. It must export `handle` under the name
/// that [`HANDLE`] has.
#[must_use]
pub fn component(folder: &Path, name: &str, core: &str) -> PathBuf {
    let mut module = wat::parse_str(core).unwrap();
    let mut resolve = Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("wit");
    let (package, _) = resolve.push_path(wit).unwrap();
    let world = resolve.select_world(&[package], Some("wasi:http/proxy@0.2.12")).unwrap();
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .unwrap();
    let component = ComponentEncoder::default().module(&module).unwrap().encode().unwrap();
    let path = folder.join(format!("{name}.wasm"));
    std::fs::write(&path, component).unwrap();
    path
}

/// What the host calls.
pub const HANDLE: &str = "wasi:http/incoming-handler@0.2.12#handle";
