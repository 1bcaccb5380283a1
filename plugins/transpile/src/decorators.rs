//! The order in which legacy decorators of one class run.
//!
//! The transformer has them in the order of the source. TypeScript and esbuild have those of static members after
//! those of the others, which a decorator that counts or registers can tell.

use oxc::allocator::{Allocator, ArenaVec};
use oxc::ast::ast::{Argument, Expression, Program, Statement};
use oxc::ast_visit::{VisitMut, walk_mut};

/// Puts the calls of `helper` that stand in a row in that order.
pub(crate) fn order<'a>(allocator: &'a Allocator, program: &mut Program<'a>, helper: &str) {
    Order { allocator, helper }.visit_program(program);
}

struct Order<'a, 'h> {
    allocator: &'a Allocator,
    helper: &'h str,
}

/// What a call decorates.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Instance,
    Static,
}

impl<'a> VisitMut<'a> for Order<'a, '_> {
    fn visit_statements(&mut self, statements: &mut ArenaVec<'a, Statement<'a>>) {
        walk_mut::walk_statements(self, statements);
        let is_mixed = statements.windows(2).any(|pair| match pair {
            [first, second] => {
                let (first, second) = (self.member(first), self.member(second));
                matches!((first, second), (Some((a, Kind::Static)), Some((b, Kind::Instance))) if a == b)
            }
            _ => false,
        });
        if !is_mixed {
            return;
        }
        let mut ordered = ArenaVec::with_capacity_in(statements.len(), &self.allocator);
        let mut last: Vec<Statement<'a>> = Vec::new();
        let mut class: Option<String> = None;
        for statement in statements.drain(..) {
            let member = self.member(&statement).map(|(class, kind)| (class.to_owned(), kind));
            if member.as_ref().map(|(class, _)| class) != class.as_ref() {
                ordered.extend(last.drain(..));
            }
            match member {
                Some((of, Kind::Static)) => {
                    last.push(statement);
                    class = Some(of);
                }
                Some((of, Kind::Instance)) => {
                    ordered.push(statement);
                    class = Some(of);
                }
                None => {
                    ordered.push(statement);
                    class = None;
                }
            }
        }
        ordered.extend(last);
        *statements = ordered;
    }
}

impl Order<'_, '_> {
    /// The class of `helper([…], Class.prototype, "name", …)` and which kind of member it is.
    fn member<'s>(&self, statement: &'s Statement<'_>) -> Option<(&'s str, Kind)> {
        let Statement::ExpressionStatement(statement) = statement else { return None };
        let Expression::CallExpression(call) = &statement.expression else { return None };
        let Expression::Identifier(callee) = &call.callee else { return None };
        if callee.name.as_str() != self.helper || call.arguments.len() != 4 {
            return None;
        }
        match call.arguments.get(1)? {
            Argument::Identifier(class) => Some((class.name.as_str(), Kind::Static)),
            Argument::StaticMemberExpression(member)
                if member.property.name.as_str() == "prototype" =>
            {
                let Expression::Identifier(class) = &member.object else { return None };
                Some((class.name.as_str(), Kind::Instance))
            }
            _ => None,
        }
    }
}
