//! What classic JSX calls, imported as `import React = require("react")`.
//!
//! The transformer leaves such an import out when nothing in the source uses it, and does not know yet that the calls
//! which it makes of JSX will.

use crate::accessors::statements;
use crate::options::{Jsx, Options};
use oxc::allocator::Allocator;
use oxc::ast::ast::{JSXElement, JSXFragment, Program, Statement, TSModuleReference};
use oxc::ast_visit::Visit;

/// Writes the import as the constant that it is.
pub(crate) fn keep<'a>(
    allocator: &'a Allocator,
    source: &str,
    options: &Options,
    program: &mut Program<'a>,
) {
    if options.jsx != Jsx::Classic || !source.contains("require") || !HasJsx::look(program) {
        return;
    }
    let roots = [&options.jsx_factory, &options.jsx_fragment];
    let is_called = |name: &str| {
        let is_root = |path: &&String| path.split('.').next() == Some(name);
        // A comment may name another one.
        roots.iter().any(is_root) || source.contains(&format!("@jsx {name}"))
    };
    for statement in &mut program.body {
        if let Statement::TSImportEqualsDeclaration(import) = statement
            && let TSModuleReference::ExternalModuleReference(module) = &import.module_reference
            && !import.import_kind.is_type()
            && is_called(import.id.name.as_str())
        {
            let module = serde_json::Value::from(module.expression.value.as_str());
            let text = format!("const {} = require({module});", import.id.name);
            if let Some(constant) = statements(allocator, &text).into_iter().next() {
                *statement = constant;
            }
        }
    }
}

#[derive(Default)]
struct HasJsx(bool);

impl HasJsx {
    fn look(program: &Program<'_>) -> bool {
        let mut found = Self::default();
        found.visit_program(program);
        found.0
    }
}

impl<'a> Visit<'a> for HasJsx {
    fn visit_jsx_element(&mut self, _: &JSXElement<'a>) {
        self.0 = true;
    }

    fn visit_jsx_fragment(&mut self, _: &JSXFragment<'a>) {
        self.0 = true;
    }
}
