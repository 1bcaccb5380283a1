//! Functions that lowered code calls, written into the output so that it stands alone.
//!
//! The transformer only imports them. Each is one function declaration without state of its own: as a
//! declaration it is there from the first statement of the module on, wherever it stands, so it stands at the
//! end, and no line of the source moves.

use oxc::allocator::{Allocator, FromIn};
use oxc::ast::ast::{
    Argument, BindingPattern, Expression, ImportDeclarationSpecifier, Program, Statement,
};
use oxc::ast_visit::VisitMut;
use oxc::parser::Parser;
use oxc::span::{SPAN, SourceType, Span};

/// The module from which the transformer imports what is then written into the output; no module has this name.
pub(crate) const INLINE: &str = "guesthouse:transpile";
/// The module that has these functions for everyone.
pub(crate) const EXTERNAL: &str = "@oxc-project/runtime";

macro_rules! sources {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("helpers/", $name, ".js")))),*]
    };
}

const SOURCES: [(&str, &str); 26] = sources![
    "assertClassBrand",
    "asyncGeneratorDelegate",
    "asyncIterator",
    "awaitAsyncGenerator",
    "checkInRHS",
    "classPrivateFieldGet2",
    "classPrivateFieldInitSpec",
    "classPrivateFieldSet2",
    "classPrivateMethodInitSpec",
    "decorate",
    "decorateMetadata",
    "decorateParam",
    "defineProperty",
    "extends",
    "objectDestructuringEmpty",
    "objectSpread2",
    "objectWithoutProperties",
    "readOnlyError",
    "superPropGet",
    "superPropSet",
    "taggedTemplateLiteral",
    "toPropertyKey",
    "toSetter",
    "usingCtx",
    "wrapAsyncGenerator",
    "writeOnlyError",
];

/// Puts the functions in the place of their imports.
///
/// # Errors
/// The transformer asked for a function that is not there.
pub(crate) fn inline<'a>(
    allocator: &'a Allocator,
    program: &mut Program<'a>,
) -> Result<(), String> {
    let mut wanted = Vec::new();
    program.body.retain(|statement| {
        let helper = imported(statement)
            .and_then(|(module, local)| Some((helper_in(INLINE, module)?, local)));
        wanted.extend(helper.map(|(helper, local)| (helper.to_owned(), local.to_owned())));
        helper.is_none()
    });
    for (helper, local) in wanted {
        let (_, source) = SOURCES
            .iter()
            .find(|(name, _)| *name == helper)
            .ok_or_else(|| format!("this needs the helper `{helper}`, which is not there"))?;
        let source = source.replacen("NAME", &local, 1);
        let source = oxc::str::Str::from_in(source, allocator).as_str();
        let mut parsed = Parser::new(allocator, source, SourceType::mjs()).parse().program;
        WithoutPlace.visit_program(&mut parsed);
        for statement in parsed.body {
            program.body.push(statement);
        }
    }
    Ok(())
}

/// The name that a helper has in the module, before it is inlined.
pub(crate) fn local_of(program: &Program<'_>, helper: &str) -> Option<String> {
    program.body.iter().find_map(|statement| {
        let (module, local) = imported(statement)?;
        let found = [INLINE, EXTERNAL].iter().find_map(|from| helper_in(from, module));
        (found? == helper).then(|| local.to_owned())
    })
}

/// The helper in a module of this name, if the module is one from there.
fn helper_in<'s>(from: &str, module: &'s str) -> Option<&'s str> {
    module.strip_prefix(from)?.strip_prefix("/helpers/")
}

/// The module and the name for it in `import local from "module"`, and in what is no ES module in
/// `var local = require("module")`.
fn imported<'s>(statement: &'s Statement<'_>) -> Option<(&'s str, &'s str)> {
    match statement {
        Statement::ImportDeclaration(import) => match import.specifiers.as_ref()?.first()? {
            ImportDeclarationSpecifier::ImportDefaultSpecifier(default) => {
                Some((import.source.value.as_str(), default.local.name.as_str()))
            }
            _ => None,
        },
        Statement::VariableDeclaration(declaration) => {
            let declarator = declaration.declarations.first()?;
            let Some(Expression::CallExpression(call)) = &declarator.init else { return None };
            let Some(Argument::StringLiteral(module)) = call.arguments.first() else { return None };
            let BindingPattern::BindingIdentifier(local) = &declarator.id else { return None };
            Some((module.value.as_str(), local.name.as_str()))
        }
        _ => None,
    }
}

/// Their places are places of other texts, and must not get into a source map.
pub(crate) struct WithoutPlace;

impl VisitMut<'_> for WithoutPlace {
    fn visit_span(&mut self, span: &mut Span) {
        *span = SPAN;
    }
}
