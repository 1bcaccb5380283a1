//! The `accessor` keyword, written as a private field with a getter and a setter.
//!
//! Owns what the transformer leaves as it is and no engine runs. What comes out is what the proposal says an
//! auto-accessor is, and what esbuild writes. It never touches an accessor with a decorator: that is more than
//! a field.

use crate::helpers::WithoutPlace;
use oxc::allocator::{Allocator, FromIn, TakeIn, Vec as ArenaVec};
use oxc::ast::ast::{
    AccessorProperty, AccessorPropertyType, ClassBody, ClassElement, Expression, Program,
    PropertyKey, Statement,
};
use oxc::ast_visit::{VisitMut, walk_mut};
use oxc::parser::Parser;
use oxc::span::{GetSpan, SourceType};

/// Writes the accessors of a program anew.
pub(crate) fn lower<'a>(allocator: &'a Allocator, source: &str, program: &mut Program<'a>) {
    let mut lower = Lower { allocator, source, taken: Vec::new(), variables: Vec::new() };
    lower.visit_program(program);
    if !lower.variables.is_empty() {
        let text = format!("var {};", lower.variables.join(", "));
        let mut body = ArenaVec::new_in(&allocator);
        body.extend(statements(allocator, &text));
        body.extend(program.body.drain(..));
        program.body = body;
    }
}

struct Lower<'a, 's> {
    allocator: &'a Allocator,
    source: &'s str,
    /// Names that were given.
    taken: Vec<String>,
    /// Those of them that keep a computed key between its two uses.
    variables: Vec<String>,
}

impl<'a> VisitMut<'a> for Lower<'a, '_> {
    fn visit_class_body(&mut self, body: &mut ClassBody<'a>) {
        walk_mut::walk_class_body(self, body);
        let is_plain = |element: &ClassElement<'_>| {
            matches!(
                element,
                ClassElement::AccessorProperty(accessor)
                    if accessor.r#type == AccessorPropertyType::AccessorProperty && accessor.decorators.is_empty()
            )
        };
        if !body.body.iter().any(is_plain) {
            return;
        }
        let mut elements = ArenaVec::new_in(&self.allocator);
        for element in body.body.drain(..) {
            match element {
                ClassElement::AccessorProperty(mut accessor)
                    if accessor.r#type == AccessorPropertyType::AccessorProperty
                        && accessor.decorators.is_empty() =>
                {
                    elements.extend(self.lowered(&mut accessor));
                }
                other => elements.push(other),
            }
        }
        body.body = elements;
    }
}

impl<'a> Lower<'a, '_> {
    /// The field, the getter and the setter.
    fn lowered(&mut self, accessor: &mut AccessorProperty<'a>) -> Vec<ClassElement<'a>> {
        let before = if accessor.r#static { "static " } else { "" };
        let (get, set, field) = match &accessor.key {
            PropertyKey::StaticIdentifier(name) => {
                (name.name.to_string(), name.name.to_string(), name.name.to_string())
            }
            PropertyKey::PrivateIdentifier(name) => {
                (format!("#{}", name.name), format!("#{}", name.name), format!("_{}", name.name))
            }
            key if !accessor.computed => {
                let span = key.span();
                let text = self.source.get(span.start as usize..span.end as usize);
                let text = text.unwrap_or_default().to_owned();
                (text.clone(), text, "accessor".to_owned())
            }
            _ => {
                let variable = self.unused("_a", "");
                self.variables.push(variable.clone());
                (format!("[{variable} = 0]"), format!("[{variable}]"), "accessor".to_owned())
            }
        };
        let field = self.unused(&field, "#");
        let text = format!(
            "(class {{ {before}#{field} = void 0; {before}get {get}() {{ return this.#{field}; }} \
             {before}set {set}(_) {{ this.#{field} = _; }} }});"
        );
        let mut elements = statements(self.allocator, &text)
            .into_iter()
            .find_map(|statement| {
                let Statement::ExpressionStatement(statement) = statement else { return None };
                let Expression::ParenthesizedExpression(inner) = statement.unbox().expression
                else {
                    return None;
                };
                let Expression::ClassExpression(class) = inner.unbox().expression else {
                    return None;
                };
                Some(class.unbox().body.unbox().body.into_iter().collect::<Vec<_>>())
            })
            .unwrap_or_default();
        for element in &mut elements {
            match element {
                ClassElement::PropertyDefinition(field) => {
                    if let Some(value) = accessor.value.take() {
                        field.value = Some(value);
                    }
                }
                ClassElement::MethodDefinition(method) => {
                    if let PropertyKey::AssignmentExpression(assignment) = &mut method.key {
                        let key = accessor.key.take_in(&self.allocator);
                        assignment.right = key.into_expression();
                    }
                }
                _ => {}
            }
        }
        elements
    }

    /// A name that the source does not have and that nobody was given.
    fn unused(&mut self, wish: &str, sign: &str) -> String {
        let mut number = 1;
        loop {
            let name = if number == 1 { wish.to_owned() } else { format!("{wish}{number}") };
            let full = format!("{sign}{name}");
            if !self.source.contains(&full) && !self.taken.contains(&full) {
                self.taken.push(full);
                return name;
            }
            number += 1;
        }
    }
}

/// Statements that are in no source.
pub(crate) fn statements<'a>(allocator: &'a Allocator, text: &str) -> Vec<Statement<'a>> {
    let text = oxc::str::Str::from_in(text, allocator).as_str();
    let mut parsed = Parser::new(allocator, text, SourceType::mjs()).parse().program;
    WithoutPlace.visit_program(&mut parsed);
    parsed.body.into_iter().collect()
}
