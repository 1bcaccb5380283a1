//! Values of enum members that the transformer computes wrong.
//!
//! It takes `+"3"` for the text, and `-"3"` for no number whatever the text is. Here they are left for the engine to
//! compute, as TypeScript does.

use oxc::allocator::{Allocator, TakeIn};
use oxc::ast::ast::{
    BinaryOperator, Expression, IdentifierReference, Program, TSEnumDeclaration, UnaryOperator,
};
use oxc::ast::builder::AstBuilder;
use oxc::ast_visit::{VisitMut, walk_mut};
use oxc::semantic::Scoping;
use oxc::span::SPAN;
use oxc::syntax::constant_value::ConstantValue;
use oxc::syntax::symbol::SymbolId;

/// Keeps signs before texts from being computed. True if there were any: the values of all members must then be
/// computed again.
pub(crate) fn mend_signs<'a>(
    allocator: &'a Allocator,
    program: &mut Program<'a>,
    scoping: &Scoping,
) -> bool {
    let builder = AstBuilder::new(allocator);
    let mut signs = Signs { builder, scoping, of: None, changed: false };
    signs.visit_program(program);
    signs.changed
}

struct Signs<'a, 's> {
    builder: AstBuilder<'a>,
    scoping: &'s Scoping,
    /// The enum whose members are looked at.
    of: Option<SymbolId>,
    changed: bool,
}

impl<'a> VisitMut<'a> for Signs<'a, '_> {
    fn visit_ts_enum_declaration(&mut self, declaration: &mut TSEnumDeclaration<'a>) {
        let outer = self.of;
        self.of = declaration.id.symbol_id.get();
        walk_mut::walk_ts_enum_declaration(self, declaration);
        self.of = outer;
    }

    fn visit_expression(&mut self, expression: &mut Expression<'a>) {
        walk_mut::walk_expression(self, expression);
        if let (Some(of), Expression::UnaryExpression(unary)) = (self.of, &*expression)
            && matches!(
                unary.operator,
                UnaryOperator::UnaryPlus | UnaryOperator::UnaryNegation | UnaryOperator::BitwiseNot
            )
            && is_text(&unary.argument, of, self.scoping)
        {
            // What has a mark of TypeScript around it is not computed, and the mark is not written.
            let inner = expression.take_in(&self.builder);
            *expression = Expression::new_ts_non_null_expression(SPAN, inner, &self.builder);
            self.changed = true;
        }
    }
}

/// Whether the transformer takes this for a text.
fn is_text(expression: &Expression<'_>, of: SymbolId, scoping: &Scoping) -> bool {
    match expression {
        Expression::StringLiteral(_) | Expression::TemplateLiteral(_) => true,
        Expression::ParenthesizedExpression(inner) => is_text(&inner.expression, of, scoping),
        Expression::BinaryExpression(binary) => {
            binary.operator == BinaryOperator::Addition
                && (is_text(&binary.left, of, scoping) || is_text(&binary.right, of, scoping))
        }
        Expression::Identifier(name) => {
            let own = symbol_of(name, scoping).and_then(|own| scoping.get_enum_member_value(own));
            is_member_text(name.name.as_str(), of, scoping)
                || matches!(own, Some(ConstantValue::String(_)))
        }
        Expression::StaticMemberExpression(member) => {
            let of = enum_of(&member.object, scoping);
            of.is_some_and(|of| is_member_text(member.property.name.as_str(), of, scoping))
        }
        Expression::ComputedMemberExpression(member) => {
            let Expression::StringLiteral(name) = &member.expression else { return false };
            let of = enum_of(&member.object, scoping);
            of.is_some_and(|of| is_member_text(name.value.as_str(), of, scoping))
        }
        _ => false,
    }
}

fn symbol_of(name: &IdentifierReference<'_>, scoping: &Scoping) -> Option<SymbolId> {
    scoping.get_reference(name.reference_id.get()?).symbol_id()
}

fn enum_of(object: &Expression<'_>, scoping: &Scoping) -> Option<SymbolId> {
    let Expression::Identifier(name) = object else { return None };
    symbol_of(name, scoping)
}

fn is_member_text(name: &str, of: SymbolId, scoping: &Scoping) -> bool {
    let bodies = scoping.get_enum_body_scopes(of).unwrap_or_default();
    bodies.iter().any(|body| {
        let member = scoping.get_binding(*body, name.into());
        let value = member.and_then(|member| scoping.get_enum_member_value(member));
        matches!(value, Some(ConstantValue::String(_)))
    })
}
