//! From source to output: parse, check, transform, inline helpers, minify, print.

use crate::accessors;
use crate::diagnostics::{self, Diagnostic};
use crate::helpers;
use crate::import_map::{ImportMap, Rewrite};
use crate::nesting;
use crate::options::{Decorators, Jsx, Loader, Options, SourceMap};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oxc::allocator::Allocator;
use oxc::ast::ast::{AccessorProperty, Decorator, Program};
use oxc::ast_visit::{Visit, VisitMut, walk};
use oxc::codegen::{Codegen, CodegenOptions, CommentOptions};
use oxc::diagnostics::OxcDiagnostic;
use oxc::minifier::{
    CompressOptions, CompressOptionsKeepNames, MangleOptions, MangleOptionsKeepNames, Minifier,
    MinifierOptions,
};
use oxc::parser::{ParseOptions, Parser};
use oxc::semantic::SemanticBuilder;
use oxc::span::SourceType;
use oxc::transformer::{
    EnvOptions, HelperLoaderMode, HelperLoaderOptions, JsxOptions, JsxRuntime, TransformOptions,
    Transformer,
};
use std::borrow::Cow;
use std::path::Path;

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
    let wrong = |found: oxc::diagnostics::Diagnostics| {
        let errors: Vec<OxcDiagnostic> = found.errors().cloned().collect();
        if errors.is_empty() { Ok(()) } else { Err(diagnostics::all(source, name, errors)) }
    };
    wrong(parsed.diagnostics)?;
    let mut program = parsed.program;
    not_lowered(source, options, &program)?;
    if source.contains("accessor") {
        accessors::lower(&allocator, source, &mut program);
    }

    let semantic = SemanticBuilder::new()
        .with_check_syntax_error(true)
        .with_excess_capacity(2.0)
        .with_enum_eval(true)
        .build(&program);
    wrong(semantic.diagnostics)?;
    let scoping = semantic.semantic.into_scoping();
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
    let mut settings = TransformOptions {
        env: EnvOptions::from_target(options.target.0)?,
        ..TransformOptions::default()
    };
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

/// Syntax that the transformer would leave as it is, and that no engine runs.
fn not_lowered(
    source: &str,
    options: &Options,
    program: &Program<'_>,
) -> Result<(), Vec<Diagnostic>> {
    struct Find {
        standard: bool,
        found: Vec<(u32, u32, &'static str)>,
    }
    impl<'a> Visit<'a> for Find {
        fn visit_decorator(&mut self, decorator: &Decorator<'a>) {
            if self.standard {
                let message = "Standard decorators can't be lowered yet. For those of TypeScript's \
                               experimentalDecorators, ask with decorators=legacy";
                self.found.push((decorator.span.start, decorator.span.end, message));
            }
            walk::walk_decorator(self, decorator);
        }

        fn visit_accessor_property(&mut self, accessor: &AccessorProperty<'a>) {
            if !accessor.decorators.is_empty() && !self.standard {
                let message = "An accessor with a decorator can't be lowered yet; write a getter and a setter";
                self.found.push((accessor.span.start, accessor.span.start + 8, message));
            }
            walk::walk_accessor_property(self, accessor);
        }
    }
    // Most sources have neither, and need no walk.
    if !source.contains('@') && !source.contains("accessor") {
        return Ok(());
    }
    let mut find = Find { standard: options.decorators == Decorators::Standard, found: Vec::new() };
    find.visit_program(program);
    if find.found.is_empty() {
        return Ok(());
    }
    let at = |(start, end, message): (u32, u32, &str)| {
        Diagnostic::at(source, &options.filename, start as usize, (end - start) as usize, message)
    };
    Err(find.found.into_iter().take(50).map(at).collect())
}
