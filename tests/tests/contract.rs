//! The contract: what was released stays.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use wit_parser::{Function, Handle, Resolve, Type, TypeDefKind, WorldItem};

fn wit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("wit")
}

/// Our packages as they were released, with the WASI packages of today, in a folder that can be changed.
fn released() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&wit().join("released/0.1.0"), folder.path());
    copy(&wit().join("deps"), &folder.path().join("deps"));
    folder
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Everything that a component can be built against: `world/interface#item` → its shape, in words.
type Shapes = BTreeMap<String, String>;

fn shapes(folder: &Path) -> Shapes {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(folder).unwrap();
    let mut shapes = Shapes::new();
    for (world_name, world) in &resolve.packages[package].worlds {
        let world = &resolve.worlds[*world];
        for (direction, items) in [("import", &world.imports), ("export", &world.exports)] {
            for (key, item) in items {
                let name = format!("{world_name} {direction} {}", resolve.name_world_key(key));
                shapes.insert(name.clone(), String::new());
                let WorldItem::Interface { id, .. } = item else { continue };
                let interface = &resolve.interfaces[*id];
                for (item, function) in &interface.functions {
                    shapes.insert(format!("{name}#{item}"), function_shape(&resolve, function));
                }
                for (item, id) in &interface.types {
                    shapes.insert(
                        format!("{name}#{item}"),
                        definition(&resolve, &resolve.types[*id].kind),
                    );
                }
            }
        }
    }
    shapes
}

fn function_shape(resolve: &Resolve, function: &Function) -> String {
    let parameters: Vec<String> = function
        .params
        .iter()
        .map(|parameter| format!("{}: {}", parameter.name, shape(resolve, &parameter.ty)))
        .collect();
    let result = function.result.as_ref().map(|result| shape(resolve, result));
    format!("{:?}({}) -> {result:?}", function.kind.is_async(), parameters.join(", "))
}

fn shape(resolve: &Resolve, ty: &Type) -> String {
    match ty {
        Type::Id(id) => {
            let definition_of = &resolve.types[*id];
            match &definition_of.name {
                Some(name) => name.clone(),
                None => definition(resolve, &definition_of.kind),
            }
        }
        primitive => format!("{primitive:?}"),
    }
}

fn definition(resolve: &Resolve, kind: &TypeDefKind) -> String {
    let of = |ty: &Option<Type>| ty.as_ref().map(|ty| shape(resolve, ty));
    match kind {
        TypeDefKind::Record(record) => {
            let fields =
                record.fields.iter().map(|f| format!("{}: {}", f.name, shape(resolve, &f.ty)));
            format!("record {:?}", fields.collect::<Vec<_>>())
        }
        TypeDefKind::Variant(variant) => {
            let cases =
                variant.cases.iter().map(|case| format!("{}({:?})", case.name, of(&case.ty)));
            format!("variant {:?}", cases.collect::<Vec<_>>())
        }
        TypeDefKind::Enum(names) => {
            format!("enum {:?}", names.cases.iter().map(|case| &case.name).collect::<Vec<_>>())
        }
        TypeDefKind::Flags(flags) => {
            format!("flags {:?}", flags.flags.iter().map(|flag| &flag.name).collect::<Vec<_>>())
        }
        TypeDefKind::Tuple(tuple) => {
            let types = tuple.types.iter().map(|ty| shape(resolve, ty));
            format!("tuple {:?}", types.collect::<Vec<_>>())
        }
        TypeDefKind::Option(ty) => format!("option<{}>", shape(resolve, ty)),
        TypeDefKind::List(ty) => format!("list<{}>", shape(resolve, ty)),
        TypeDefKind::Result(result) => {
            format!("result<{:?}, {:?}>", of(&result.ok), of(&result.err))
        }
        TypeDefKind::Type(ty) => shape(resolve, ty),
        TypeDefKind::Handle(Handle::Own(id)) => format!("own {:?}", resolve.types[*id].name),
        TypeDefKind::Handle(Handle::Borrow(id)) => format!("borrow {:?}", resolve.types[*id].name),
        TypeDefKind::Stream(ty) => format!("stream<{:?}>", of(ty)),
        TypeDefKind::Future(ty) => format!("future<{:?}>", of(ty)),
        other => other.as_str().to_owned(),
    }
}

/// What a component built against `old` would miss or find changed in `new`. A function or type that is
/// new hurts nobody; a case or field that is new changes the shape of values, and does. So does an export
/// that an existing world asks for anew: components that were built before do not have it.
fn breaks(old: &Shapes, new: &Shapes) -> Vec<String> {
    let changed = old
        .iter()
        .filter(|(name, shape)| new.get(*name) != Some(*shape))
        .map(|(name, shape)| format!("{name}: was {shape}, is {:?}", new.get(name)));
    let world = |name: &str| name.split(' ').next().unwrap().to_owned();
    let worlds: BTreeSet<String> = old.keys().map(|name| world(name)).collect();
    let demanded = new
        .keys()
        .filter(|name| name.split(' ').nth(1) == Some("export") && worlds.contains(&world(name)))
        .filter(|name| !old.contains_key(*name))
        .map(|name| format!("{name}: is asked for, and was not"));
    changed.chain(demanded).collect()
}

#[test]
fn what_was_released_still_fits() {
    let broken = breaks(&shapes(released().path()), &shapes(&wit()));
    assert!(
        broken.is_empty(),
        "components built against version 0.1.0 would break; make a new version of the package beside \
         the old one:\n{}",
        broken.join("\n")
    );
}

#[test]
fn a_change_that_breaks_is_noticed_and_an_addition_is_not() {
    let old = shapes(released().path());
    for (from, to, breaking) in [
        ("exists: func(key: string) -> result<bool, error>;", "", true),
        ("get: func(key: string)", "get: func(name: string)", true),
        ("size: u64,", "size: u32,", true),
        ("unavailable,", "unavailable, other,", true),
        ("%list: func(options: list-options)", "%list: async func(options: list-options)", true),
        ("exists: func", "touch: func(key: string);\n exists: func", false),
    ] {
        let changed = released();
        let file = changed.path().join("kv.wit");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(&file, text.replace(from, to)).unwrap();
        assert_eq!(!breaks(&old, &shapes(changed.path())).is_empty(), breaking, "{from} → {to}");
    }
}

#[test]
fn an_export_that_a_world_asks_for_anew_is_noticed() {
    let changed = released();
    let file = changed.path().join("plugin.wit");
    let text = std::fs::read_to_string(&file).unwrap();
    let world = "world http-plugin {";
    assert!(text.contains(world));
    let more = format!("{world}\n    export greet: func() -> string;");
    std::fs::write(&file, text.replace(world, &more)).unwrap();
    let broken = breaks(&shapes(released().path()), &shapes(changed.path()));
    assert!(broken.iter().any(|line| line.contains("greet")), "{broken:?}");
}

#[test]
fn what_is_vendored_is_what_the_readme_of_the_contract_lists() {
    let readme = std::fs::read_to_string(wit().join("README.md")).unwrap();
    let listed: BTreeSet<String> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(str::to_owned)
        .collect();
    let mut resolve = Resolve::default();
    resolve.push_path(wit()).unwrap();
    let mut vendored = BTreeSet::new();
    for entry in std::fs::read_dir(wit().join("deps")).unwrap() {
        let folder = entry.unwrap().file_name().into_string().unwrap();
        let (name, version) = folder.split_once("-0.").expect("a folder is called NAME-VERSION");
        vendored.insert(format!("{}@0.{version}", name.replacen('-', ":", 1)));
    }
    assert_eq!(vendored, listed, "folders of wit/deps, and the table of wit/README.md");
    // And each folder holds what it is called: all of it is parsed as one contract.
    let parsed: BTreeSet<String> =
        resolve.packages.iter().map(|(_, package)| package.name.to_string()).collect();
    assert!(parsed.is_superset(&vendored), "{:?}", vendored.difference(&parsed));
}
