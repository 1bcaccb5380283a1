//! Parentheses that the printer leaves out around `#name in object`.
//!
//! `#a in (#b in c)` and `(#a in b) + c` would be printed without them, and be a syntax error or something else.
//! A list of one expression is printed with parentheses wherever it needs them, so it takes their place. This is
//! the last step before printing: nothing else needs to know such a list.

use oxc::allocator::{Allocator, TakeIn};
use oxc::ast::ast::{BinaryExpression, Expression, ForStatement, PrivateInExpression, Program};
use oxc::ast::builder::AstBuilder;
use oxc::ast_visit::{VisitMut, walk_mut};
use oxc::span::SPAN;
use oxc::syntax::precedence::{GetPrecedence, Precedence};

/// Keeps them.
pub(crate) fn keep<'a>(allocator: &'a Allocator, program: &mut Program<'a>) {
    Keep { builder: AstBuilder::new(allocator), loop_begins: false }.visit_program(program);
}

struct Keep<'a> {
    builder: AstBuilder<'a>,
    /// In the first part of `for (…;;)`, an `in` would make another loop of it.
    loop_begins: bool,
}

impl<'a> Keep<'a> {
    fn around(&self, expression: &mut Expression<'a>) {
        let inner = expression.take_in(&self.builder);
        *expression = Expression::new_sequence_expression(SPAN, [inner], &self.builder);
    }
}

impl<'a> VisitMut<'a> for Keep<'a> {
    fn visit_for_statement(&mut self, statement: &mut ForStatement<'a>) {
        if let Some(init) = &mut statement.init {
            let outer = std::mem::replace(&mut self.loop_begins, true);
            self.visit_for_statement_init(init);
            self.loop_begins = outer;
        }
        if let Some(test) = &mut statement.test {
            self.visit_expression(test);
        }
        if let Some(update) = &mut statement.update {
            self.visit_expression(update);
        }
        self.visit_statement(&mut statement.body);
    }

    fn visit_expression(&mut self, expression: &mut Expression<'a>) {
        walk_mut::walk_expression(self, expression);
        if self.loop_begins && matches!(expression, Expression::PrivateInExpression(_)) {
            self.around(expression);
        }
    }

    fn visit_private_in_expression(&mut self, check: &mut PrivateInExpression<'a>) {
        walk_mut::walk_private_in_expression(self, check);
        let needs_them = match check.right.without_parentheses() {
            Expression::PrivateInExpression(_) => true,
            Expression::BinaryExpression(binary) => {
                binary.operator.precedence() <= Precedence::Compare
            }
            _ => false,
        };
        if needs_them {
            self.around(&mut check.right);
        }
    }

    fn visit_binary_expression(&mut self, binary: &mut BinaryExpression<'a>) {
        walk_mut::walk_binary_expression(self, binary);
        let is_check =
            matches!(binary.left.without_parentheses(), Expression::PrivateInExpression(_));
        if is_check && binary.operator.precedence() > Precedence::Compare {
            self.around(&mut binary.left);
        }
    }
}
