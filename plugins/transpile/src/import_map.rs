//! Rewriting of what a module imports, so that a browser finds it at this house.
//!
//! The rules are those that clients of the original know: a package that the import map does not name is asked
//! for as one bundle, with what is shared left outside; a relative path gets its extension.

use oxc::allocator::{Allocator, FromIn};
use oxc::ast::ast::{
    ExportAllDeclaration, ExportFromDeclaration, Expression, ImportDeclaration,
    ImportDeclarationSpecifier, ImportExpression, StringLiteral,
};
use oxc::ast_visit::{VisitMut, walk_mut};
use oxc::str::Str;

/// Modules that a bundle must not bring a second copy of.
const SHARED: &str = "react,react-dom,framer-motion,@emotion/react,@emotion/styled";
/// Folders of the application, as its sources name them.
const FOLDERS: [&str; 6] =
    ["@/components/", "@/lib", "@/hooks", "@/services/", "@/external/", "@/workers/"];

/// Names that the browser's import map resolves: setting `import_map`, JSON as in `<script type="importmap">`.
#[derive(Clone, Debug, Default)]
pub struct ImportMap {
    names: Vec<String>,
}

impl ImportMap {
    /// Says that a text was rewritten already.
    pub(crate) const MARKER: &'static str = "/** importMapReplace */\n";

    /// Reads the setting.
    ///
    /// # Errors
    /// It is no import map.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value: serde_json::Value = serde_json::from_str(text)
            .map_err(|error| format!("import_map is not JSON: {error}"))?;
        let imports = value
            .get("imports")
            .and_then(serde_json::Value::as_object)
            .ok_or("import_map has no `imports`")?;
        Ok(Self { names: imports.keys().cloned().collect() })
    }

    /// Whether a text is one that has not been rewritten.
    pub(crate) fn wants(source: &str) -> bool {
        !source.contains("/** importMapReplace */") && !source.contains("/* esm.sh")
    }

    /// What stands for a module; none: it stays.
    #[must_use]
    pub fn rewrite(&self, module: &str, exports: &[String], with_from: bool) -> Option<String> {
        let stays =
            ["data:", "http:", "https:", "blob:"].iter().any(|scheme| module.starts_with(scheme))
                || module.contains("/live/")
                || module.contains("?bundle=true")
                || self.names.iter().any(|name| name == module);
        if stays {
            return None;
        }
        let (path, query) = match module.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (module, None),
        };
        if path.contains("/workers/") || path.contains(".worker") {
            let bare = without_extension(path);
            let extension = if with_from { "mjs" } else { "js" };
            let root = if path.starts_with("@/") { "/" } else { "" };
            return Some(format!("{root}{bare}.{extension}"));
        }
        if FOLDERS.iter().any(|folder| path.starts_with(folder)) {
            return Some(format!("/{}.mjs", without_extension(path)));
        }
        if path.starts_with('.') || path.starts_with('/') {
            let last = path.rsplit('/').next().unwrap_or_default();
            if path.ends_with('/') {
                return Some(format!("{path}index.mjs"));
            }
            if matches!(last, "." | "..") {
                return Some(format!("{path}/index.mjs"));
            }
            return (!last.contains('.')).then(|| format!("{path}.mjs"));
        }
        let mut out = format!("/{path}?bundle=true&external={SHARED}");
        if !exports.is_empty() {
            out += &format!("&exports={}", exports.join(","));
        }
        if let Some(query) = query {
            out += &format!("&{query}");
        }
        Some(out)
    }
}

fn without_extension(path: &str) -> &str {
    let known = [".tsx", ".ts", ".jsx", ".mjs", ".js"];
    known.iter().find_map(|extension| path.strip_suffix(extension)).unwrap_or(path)
}

/// Applies the rules to a program.
pub(crate) struct Rewrite<'a, 'm> {
    allocator: &'a Allocator,
    map: &'m ImportMap,
}

impl<'a, 'm> Rewrite<'a, 'm> {
    pub(crate) fn new(allocator: &'a Allocator, map: &'m ImportMap) -> Self {
        Self { allocator, map }
    }

    fn replace(&self, module: &mut StringLiteral<'a>, exports: &[String], with_from: bool) {
        if let Some(new) = self.map.rewrite(&module.value, exports, with_from) {
            module.value = Str::from_in(new, self.allocator);
            module.raw = None;
        }
    }
}

impl<'a> VisitMut<'a> for Rewrite<'a, '_> {
    fn visit_import_declaration(&mut self, import: &mut ImportDeclaration<'a>) {
        let mut exports = Vec::new();
        let mut everything = false;
        for specifier in import.specifiers.iter().flatten() {
            match specifier {
                ImportDeclarationSpecifier::ImportSpecifier(one) => {
                    exports.push(one.imported.name().to_string());
                }
                ImportDeclarationSpecifier::ImportDefaultSpecifier(_) => {
                    exports.push("default".to_owned())
                }
                ImportDeclarationSpecifier::ImportNamespaceSpecifier(_) => everything = true,
            }
        }
        if everything {
            exports.clear();
        }
        let with_from = import.specifiers.is_some();
        self.replace(&mut import.source, &exports, with_from);
    }

    fn visit_export_from_declaration(&mut self, export: &mut ExportFromDeclaration<'a>) {
        let names: Vec<String> =
            export.specifiers.iter().map(|one| one.local.name().to_string()).collect();
        self.replace(&mut export.source, &names, true);
    }

    fn visit_export_all_declaration(&mut self, export: &mut ExportAllDeclaration<'a>) {
        self.replace(&mut export.source, &[], true);
    }

    fn visit_import_expression(&mut self, import: &mut ImportExpression<'a>) {
        // A module whose name is computed is for the browser to find.
        if let Expression::StringLiteral(module) = &mut import.source {
            self.replace(module, &[], false);
        }
        walk_mut::walk_import_expression(self, import);
    }
}
