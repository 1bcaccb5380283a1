//! From source to output: parse, check, transform, inline helpers, minify, print.
//!
//! Owns the order of the steps. Where the transformer or the printer is wrong, a step of ours before or after it
//! mends that, and what can't be mended is refused.

use crate::diagnostics::{self, Diagnostic};
use crate::import_map::{ImportMap, Rewrite};
use crate::options::{Decorators, Jsx, Loader, Options, SourceMap};
use crate::refused::Refusal;
use crate::{
    accessors, decorators, enums, helpers, namespaces, nesting, parentheses, pragmas, refused,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;
use oxc::allocator::Allocator;
use oxc::ast::ast::Program;
use oxc::ast_visit::VisitMut;
use oxc::codegen::{Codegen, CodegenOptions, CommentOptions};
use oxc::diagnostics::{Diagnostics, OxcDiagnostic};
use oxc::minifier::{
    CompressOptions, CompressOptionsKeepNames, MangleOptions, MangleOptionsKeepNames, Minifier,
    MinifierOptions,
};
use oxc::parser::{ParseOptions, Parser};
use oxc::semantic::{Scoping, SemanticBuilder};
use oxc::span::SourceType;
use oxc::transformer::{
    EnvOptions, HelperLoaderMode, HelperLoaderOptions, JsxOptions, JsxRuntime, TransformOptions,
    Transformer,
};
use std::borrow::Cow;
use std::cell::Cell;
use std::path::Path;

/// Errors of one answer: a source that is not meant for this has thousands.
const MOST: usize = 50;

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// JavaScript.
    pub code: String,
    /// The source map as JSON, when it is not in the code.
    pub map: Option<String>,
}

/// Transpiles.
///
/// # Errors
/// What is wrong with the source.
pub fn transpile(
    source: &str,
    options: &Options,
    map: &ImportMap,
) -> Result<Output, Vec<Diagnostic>> {
    let name = options.filename.as_str();
    if let Some(at) = nesting::too_deep(source) {
        let message = "This is nested too deeply, or one expression is too long";
        return Err(vec![Diagnostic::at(source, name, at, 1, message)]);
    }
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, source, source_type(options))
        .with_options(ParseOptions { parse_regular_expression: true, ..ParseOptions::default() })
        .parse();
    let wrong = |found: Diagnostics| {
        let errors: Vec<OxcDiagnostic> = found.errors().cloned().collect();
        if errors.is_empty() { Ok(()) } else { Err(diagnostics::all(source, name, errors)) }
    };
    wrong(parsed.diagnostics)?;
    let mut program = parsed.program;
    let refuse = |found: Vec<Refusal>| -> Result<(), Vec<Diagnostic>> {
        let at = |one: Refusal| {
            let (start, end) = (one.span.start as usize, one.span.end as usize);
            Diagnostic::at(source, name, start, end - start, &one.message)
        };
        if found.is_empty() { Ok(()) } else { Err(found.into_iter().take(MOST).map(at).collect()) }
    };
    refuse(refused::all(source, options, &program))?;
    if mentions(source, "accessor") {
        accessors::lower(&allocator, source, &mut program);
    }

    pragmas::keep(&allocator, source, options, &mut program);

    let (mut scoping, found) = scoping(&program, true);
    wrong(found)?;
    let mut changed = false;
    if mentions(source, "namespace") || mentions(source, "module") {
        match namespaces::mend(&allocator, &mut program, &scoping) {
            Ok(mended) => changed |= mended,
            Err(found) => refuse(found)?,
        }
    }
    if mentions(source, "enum") {
        changed |= enums::mend_signs(&allocator, &mut program, &scoping);
    }
    if changed {
        scoping = self::scoping(&program, false).0;
    }
    let path = Path::new(if name.is_empty() { "input.tsx" } else { name });
    let settings =
        settings(options).map_err(|why| vec![Diagnostic::at(source, name, 0, 0, &why)])?;
    let transformed =
        Transformer::new(&allocator, path, &settings).build_with_scoping(scoping, &mut program);
    // What the transformer only warns of is made wrong, but for `import =` and `export =`, which stay calls of
    // `require` as everyone makes them.
    let is_wrong =
        |found: &OxcDiagnostic| !matches!(found.code.number.as_deref(), Some("1202" | "1203"));
    let found: Vec<_> = transformed.diagnostics.into_vec().into_iter().filter(is_wrong).collect();
    if !found.is_empty() {
        return Err(diagnostics::all(source, name, found));
    }
    let mut scoping = Some(transformed.scoping);

    if options.decorators == Decorators::Legacy
        && let Some(helper) = helpers::local_of(&program, "decorate")
    {
        decorators::order(&allocator, &mut program, &helper);
    }
    if !options.external_helpers {
        helpers::inline(&allocator, &mut program)
            .map_err(|why| vec![Diagnostic::at(source, name, 0, 0, &why)])?;
    }
    let mut marker = None;
    if options.import_map && ImportMap::wants(source) {
        Rewrite::new(&allocator, map).visit_program(&mut program);
        marker = Some(ImportMap::MARKER);
    }
    let mut private = None;
    if options.minify {
        let minified = Minifier::new(minifier(options)).minify(&allocator, &mut program);
        scoping = minified.scoping;
        private = minified.class_private_mappings;
    }
    if source.contains('#') {
        parentheses::keep(&allocator, &mut program);
    }
    let printed = Codegen::new()
        .with_options(CodegenOptions {
            minify: options.minify,
            comments: if options.minify {
                CommentOptions::disabled()
            } else {
                CommentOptions::default()
            },
            source_map_path: (options.sourcemap != SourceMap::None).then(|| path.to_owned()),
            ..CodegenOptions::default()
        })
        .with_scoping(scoping)
        .with_private_member_mappings(private)
        .build(&program);

    let mut code = printed.code;
    if let Some(marker) = marker {
        code.insert_str(0, marker);
    }
    let mut map = printed.map.map(|map| map.to_json_string());
    if marker.is_some() {
        // One line more before the first.
        map = map.map(|map| map.replacen("\"mappings\":\"", "\"mappings\":\";", 1));
    }
    if options.sourcemap == SourceMap::Inline
        && let Some(map) = map.take()
    {
        code += "//# sourceMappingURL=data:application/json;charset=utf-8;base64,";
        code += &STANDARD.encode(map);
        code.push('\n');
    }
    Ok(Output { code, map })
}

/// Whether the source has this word anywhere. Most have not, and then nobody needs to look at what was parsed.
pub(crate) fn mentions(source: &str, word: &str) -> bool {
    memmem::find(source.as_bytes(), word.as_bytes()).is_some()
}

/// What is known of the names of a program, and what is wrong with them if that is asked.
fn scoping(program: &Program<'_>, check: bool) -> (Scoping, Diagnostics) {
    let built = SemanticBuilder::new()
        .with_check_syntax_error(check)
        .with_excess_capacity(2.0)
        .with_enum_eval(true)
        .build(program);
    (built.semantic.into_scoping(), built.diagnostics)
}

fn source_type(options: &Options) -> SourceType {
    let plain = match options.loader() {
        Loader::Ts => SourceType::ts(),
        Loader::Tsx => SourceType::tsx(),
        Loader::Js => SourceType::mjs(),
        Loader::Jsx => SourceType::mjs().with_jsx(true),
    };
    // Without an import or export a file would be taken for a script, whose helpers come by `require`.
    if options.is_commonjs() { plain.with_commonjs(true) } else { plain.with_module(true) }
}

fn settings(options: &Options) -> Result<TransformOptions, String> {
    let mut settings =
        TransformOptions { env: env(options.target.0)?, ..TransformOptions::default() };
    settings.jsx = match options.jsx {
        Jsx::Preserve => {
            JsxOptions { jsx_plugin: false, display_name_plugin: false, ..JsxOptions::enable() }
        }
        Jsx::Automatic => JsxOptions {
            runtime: JsxRuntime::Automatic,
            import_source: Some(options.jsx_import_source.clone()),
            display_name_plugin: false,
            throw_if_namespace: false,
            ..JsxOptions::enable()
        },
        Jsx::Classic => JsxOptions {
            runtime: JsxRuntime::Classic,
            pragma: Some(options.jsx_factory.clone()),
            pragma_frag: Some(options.jsx_fragment.clone()),
            display_name_plugin: false,
            throw_if_namespace: false,
            ..JsxOptions::enable()
        },
    };
    if options.jsx == Jsx::Classic {
        // What the calls name is used, even if the source names it nowhere else.
        settings.typescript.jsx_pragma = Cow::Owned(options.jsx_factory.clone());
        settings.typescript.jsx_pragma_frag = Cow::Owned(options.jsx_fragment.clone());
    }
    if !options.use_define {
        settings.assumptions.set_public_class_fields = true;
        settings.typescript.remove_class_fields_without_initializer = true;
    }
    settings.decorator.legacy = options.decorators == Decorators::Legacy;
    let module = if options.external_helpers { helpers::EXTERNAL } else { helpers::INLINE };
    settings.helper_loader =
        HelperLoaderOptions { module_name: Cow::Borrowed(module), mode: HelperLoaderMode::Runtime };
    Ok(settings)
}

/// What a target has: some sixty questions to a table, and the same answers for every source of this target.
fn env(target: &'static str) -> Result<EnvOptions, String> {
    thread_local! {
        static LAST: Cell<Option<(&'static str, EnvOptions)>> = const { Cell::new(None) };
    }
    match LAST.get() {
        Some((known, env)) if known == target => Ok(env),
        _ => {
            let env = EnvOptions::from_target(target)?;
            LAST.set(Some((target, env)));
            Ok(env)
        }
    }
}

/// Names stay: what reads `.name` must find what the source says.
fn minifier(options: &Options) -> MinifierOptions {
    let target = oxc::transformer::EngineTargets::from_target(options.target.0).unwrap_or_default();
    MinifierOptions {
        mangle: Some(MangleOptions {
            top_level: Some(false),
            keep_names: MangleOptionsKeepNames::all_true(),
            ..MangleOptions::default()
        }),
        mangle_properties: None,
        compress: Some(CompressOptions {
            target,
            keep_names: CompressOptionsKeepNames::all_true(),
            drop_debugger: false,
            ..CompressOptions::smallest()
        }),
    }
}
