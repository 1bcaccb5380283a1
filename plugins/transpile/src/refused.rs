//! What can't be lowered right, and is refused.
//!
//! Owns the list of the transformer's gaps, and the sentence for each. The danger that shaped it: the transformer
//! says nothing of them, and what comes out looks as if it were right.

use crate::options::{Decorators, Options};
use crate::pipeline::mentions;
use oxc::ast::ast::{
    AccessorProperty, AwaitExpression, CallExpression, Class, ClassElement, ClassType, Decorator,
    Function, MethodDefinition, MethodDefinitionKind, PrivateFieldExpression, Program,
    PropertyDefinition, PropertyKey, Statement, Super, ThisExpression, YieldExpression,
};
use oxc::ast_visit::{Visit, walk};
use oxc::span::{GetSpan, Span};
use oxc::syntax::scope::ScopeFlags;

/// A place in the source, and what is to be said of it.
pub(crate) struct Refusal {
    pub(crate) span: Span,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into() }
    }
}

/// Everything in a program that would come out wrong.
pub(crate) fn all(source: &str, options: &Options, program: &Program<'_>) -> Vec<Refusal> {
    // Most sources have none of these, and need no walk.
    let is_asked = |word: &str| mentions(source, word);
    if !is_asked("@") && !is_asked("accessor") && !is_asked("super") && options.use_define {
        return Vec::new();
    }
    let legacy = options.decorators == Decorators::Legacy;
    let mut find = Find { legacy, use_define: options.use_define, found: Vec::new() };
    find.visit_program(program);
    find.found
}

const STANDARD: &str = "Standard decorators can't be lowered yet. For those of TypeScript's \
                        experimentalDecorators, ask with decorators=legacy";
const ACCESSOR: &str =
    "An accessor with a decorator can't be lowered yet; write a getter and a setter";
const EXPRESSION: &str = "A class expression can't have legacy decorators, nor can its members; \
                          declare the class";
const PRIVATE: &str = "A private member can't have a legacy decorator";
const CONSTRUCTOR: &str =
    "A constructor can't have a legacy decorator; its class and parameters can";
const INSIDE: &str =
    "A legacy decorator runs outside of its class, where a private member can't be reached";
const AMBIENT: &str =
    "A field that is only declared, and whose name is computed, can't have a legacy decorator";
const KEY: &str = "The computed name of a field can't have `this`, `await`, `yield` or `super` in it where fields \
                   are assigned (useDefineForClassFields=0)";
const SUPER: &str = "super() must be a statement of its own in the body of this constructor, and the only one, \
                     because its class has parameter properties or fields that are assigned after it";

struct Find {
    legacy: bool,
    use_define: bool,
    found: Vec<Refusal>,
}

impl Find {
    fn refuse(&mut self, span: Span, message: &str) {
        self.found.push(Refusal::new(span, message));
    }

    /// Decorators of a class and of what is in it, all of which the transformer would leave out.
    fn class_expression(&mut self, class: &Class<'_>) {
        let mut decorators: Vec<Span> = class.decorators.iter().map(GetSpan::span).collect();
        for element in &class.body.body {
            match element {
                ClassElement::MethodDefinition(method) => {
                    decorators.extend(method.decorators.iter().map(GetSpan::span));
                    let parameters = &method.value.params.items;
                    let of_parameters = parameters.iter().flat_map(|item| item.decorators.iter());
                    decorators.extend(of_parameters.map(GetSpan::span));
                    let of_rest =
                        method.value.params.rest.iter().flat_map(|rest| rest.decorators.iter());
                    decorators.extend(of_rest.map(GetSpan::span));
                }
                ClassElement::PropertyDefinition(field) => {
                    decorators.extend(field.decorators.iter().map(GetSpan::span));
                }
                _ => {}
            }
        }
        for span in decorators {
            self.refuse(span, EXPRESSION);
        }
    }

    /// Assignments that the transformer puts behind `super()`, which it finds only as a statement.
    fn super_call(&mut self, class: &Class<'_>) {
        if class.heritage.is_none() {
            return;
        }
        let constructor = class.body.body.iter().find_map(|element| match element {
            ClassElement::MethodDefinition(method)
                if method.kind == MethodDefinitionKind::Constructor =>
            {
                method.value.body.as_ref().map(|body| (&method.value.params, body))
            }
            _ => None,
        });
        let Some((parameters, body)) = constructor else { return };
        let assigned = parameters.items.iter().any(|item| item.has_modifier())
            || (!self.use_define && class.body.body.iter().any(is_assigned_field));
        if !assigned {
            return;
        }
        let mut calls = SuperCalls { found: Vec::new() };
        for item in &parameters.items {
            calls.visit_formal_parameter(item);
        }
        calls.visit_function_body(body);
        let is_call = |statement: &&Statement<'_>| matches!(statement, Statement::ExpressionStatement(one) if one.expression.is_super_call_expression());
        let statements = body.statements.iter().filter(is_call).count();
        let is_right = calls.found.len() == 1 && statements == 1;
        if let Some(span) = calls.found.first().filter(|_| !is_right) {
            self.refuse(*span, SUPER);
        }
    }
}

/// A field that becomes an assignment in the constructor, without `useDefineForClassFields`.
fn is_assigned_field(element: &ClassElement<'_>) -> bool {
    matches!(element, ClassElement::PropertyDefinition(field) if !field.r#static && field.value.is_some())
}

impl<'a> Visit<'a> for Find {
    fn visit_class(&mut self, class: &Class<'a>) {
        if self.legacy && class.r#type == ClassType::ClassExpression {
            self.class_expression(class);
        }
        self.super_call(class);
        walk::walk_class(self, class);
    }

    fn visit_decorator(&mut self, decorator: &Decorator<'a>) {
        if !self.legacy {
            self.refuse(decorator.span, STANDARD);
        } else if Outside::find(|outside| outside.visit_expression(&decorator.expression)).private {
            self.refuse(decorator.span, INSIDE);
        }
        walk::walk_decorator(self, decorator);
    }

    fn visit_accessor_property(&mut self, accessor: &AccessorProperty<'a>) {
        if !accessor.decorators.is_empty() && self.legacy {
            let start = accessor.span.start;
            self.refuse(Span::new(start, start + 8), ACCESSOR);
        }
        walk::walk_accessor_property(self, accessor);
    }

    fn visit_method_definition(&mut self, method: &MethodDefinition<'a>) {
        if self.legacy {
            let of_parameters = method.value.params.items.iter().flat_map(|p| p.decorators.iter());
            if let PropertyKey::PrivateIdentifier(_) = &method.key
                && let Some(first) = method.decorators.iter().chain(of_parameters).next()
            {
                self.refuse(first.span, PRIVATE);
            }
            if method.kind == MethodDefinitionKind::Constructor
                && let Some(first) = method.decorators.first()
            {
                self.refuse(first.span, CONSTRUCTOR);
            }
        }
        walk::walk_method_definition(self, method);
    }

    fn visit_property_definition(&mut self, field: &PropertyDefinition<'a>) {
        if self.legacy
            && let PropertyKey::PrivateIdentifier(_) = &field.key
            && let Some(first) = field.decorators.first()
        {
            self.refuse(first.span, PRIVATE);
        }
        if self.legacy
            && field.declare
            && field.computed
            && let Some(first) = field.decorators.first()
        {
            self.refuse(first.span, AMBIENT);
        }
        if !self.use_define
            && field.computed
            && Outside::find(|outside| outside.visit_property_key(&field.key)).around
        {
            self.refuse(field.key.span(), KEY);
        }
        walk::walk_property_definition(self, field);
    }
}

/// What an expression has that means something else, or nothing, once it stands at another place.
#[derive(Default)]
struct Outside {
    /// A private member.
    private: bool,
    /// Something of the function around it.
    around: bool,
}

impl Outside {
    fn find(look: impl FnOnce(&mut Self)) -> Self {
        let mut found = Self::default();
        look(&mut found);
        found
    }
}

impl<'a> Visit<'a> for Outside {
    fn visit_private_field_expression(&mut self, _: &PrivateFieldExpression<'a>) {
        self.private = true;
    }

    fn visit_this_expression(&mut self, _: &ThisExpression) {
        self.around = true;
    }

    fn visit_super(&mut self, _: &Super) {
        self.around = true;
    }

    fn visit_await_expression(&mut self, _: &AwaitExpression<'a>) {
        self.around = true;
    }

    fn visit_yield_expression(&mut self, _: &YieldExpression<'a>) {
        self.around = true;
    }

    fn visit_class(&mut self, _: &Class<'a>) {}
}

/// Calls of `super` that belong to one constructor: arrow functions are looked into, others have none of it.
struct SuperCalls {
    found: Vec<Span>,
}

impl<'a> Visit<'a> for SuperCalls {
    fn visit_call_expression(&mut self, call: &CallExpression<'a>) {
        if call.callee.is_super() {
            self.found.push(call.span);
        }
        walk::walk_call_expression(self, call);
    }

    fn visit_function(&mut self, _: &Function<'a>, _: ScopeFlags) {}

    fn visit_class(&mut self, _: &Class<'a>) {}
}
