//! Writes names as members of their namespace: `N.name`.
//!
//! Owns the syntax: every place where a name may stand, and exports that are assignments. What is to be written, and
//! of which namespace it is a member, is decided in [`crate::namespaces`].

use crate::namespaces::{Use, is_value};
use crate::refused::Refusal;
use oxc::allocator::{Allocator, ArenaBox, ArenaVec, TakeIn};
use oxc::ast::ast::{
    AssignmentTarget, AssignmentTargetMaybeDefault, AssignmentTargetProperty, AssignmentTargetRest,
    BindingPattern, BindingRestElement, CallExpression, Declaration, Expression, IdentifierName,
    IdentifierReference, JSXElementName, JSXIdentifier, JSXMemberExpression,
    JSXMemberExpressionObject, ObjectProperty, Program, PropertyKey, SimpleAssignmentTarget,
    Statement, StaticMemberExpression, TSModuleReference, TSNamespaceDeclaration,
    TSNamespaceDeclarationBody, TSQualifiedName, TSTypeName, TaggedTemplateExpression,
    VariableDeclaration,
};
use oxc::ast::builder::AstBuilder;
use oxc::ast_visit::{VisitMut, walk_mut};
use oxc::semantic::Scoping;
use oxc::span::{SPAN, Span};
use oxc::syntax::number::NumberBase;
use oxc::syntax::operator::AssignmentOperator;
use oxc::syntax::reference::ReferenceId;
use oxc::syntax::scope::ScopeId;
use std::collections::{HashMap, HashSet};

pub(crate) struct Write<'a, 's> {
    builder: AstBuilder<'a>,
    scoping: &'s Scoping,
    /// The blocks of namespaces.
    blocks: HashSet<ScopeId>,
    uses: HashMap<ReferenceId, Use<'a>>,
    refused: Vec<Refusal>,
}

impl<'a, 's> Write<'a, 's> {
    pub(crate) fn new(
        allocator: &'a Allocator,
        scoping: &'s Scoping,
        blocks: HashSet<ScopeId>,
        uses: HashMap<ReferenceId, Use<'a>>,
    ) -> Self {
        Self { builder: AstBuilder::new(allocator), scoping, blocks, uses, refused: Vec::new() }
    }

    pub(crate) fn write(mut self, program: &mut Program<'a>) -> Result<(), Vec<Refusal>> {
        self.visit_program(program);
        if self.refused.is_empty() { Ok(()) } else { Err(self.refused) }
    }

    /// The namespace whose member this identifier is.
    fn namespace_of(&mut self, identifier: &IdentifierReference<'a>) -> Option<&'a str> {
        let found = *self.uses.get(&identifier.reference_id.get()?)?;
        if found.hidden {
            self.refuse_hidden(identifier.span, identifier.name.as_str(), found.namespace);
        }
        Some(found.namespace)
    }

    fn refuse_hidden(&mut self, span: Span, name: &str, namespace: &str) {
        let message = format!(
            "`{name}` is a member of the namespace `{namespace}`, but `{namespace}` means something else here; \
             give one of them another name"
        );
        self.refused.push(Refusal::new(span, message));
    }

    /// `N.name`, in the place of the name.
    fn member(
        &self,
        namespace: &'a str,
        span: Span,
        name: &'a str,
    ) -> ArenaBox<'a, StaticMemberExpression<'a>> {
        let object = Expression::new_identifier(SPAN, namespace, &self.builder);
        let property = IdentifierName::new(span, name, &self.builder);
        StaticMemberExpression::boxed(span, object, property, false, &self.builder)
    }

    /// The same for an identifier, if it is a member of a namespace.
    fn member_for(
        &mut self,
        identifier: &IdentifierReference<'a>,
    ) -> Option<ArenaBox<'a, StaticMemberExpression<'a>>> {
        let namespace = self.namespace_of(identifier)?;
        Some(self.member(namespace, identifier.span, identifier.name.as_str()))
    }

    /// The same for an identifier in a type's place, where an alias is made of it.
    fn type_member_for(
        &mut self,
        identifier: &IdentifierReference<'a>,
    ) -> Option<ArenaBox<'a, TSQualifiedName<'a>>> {
        let namespace = self.namespace_of(identifier)?;
        let left = TSTypeName::new_identifier_reference(SPAN, namespace, &self.builder);
        let right = IdentifierName::new(identifier.span, identifier.name.as_str(), &self.builder);
        Some(TSQualifiedName::boxed(identifier.span, left, right, &self.builder))
    }

    /// The same for an identifier in a tag of JSX.
    fn tag_member_for(
        &mut self,
        identifier: &IdentifierReference<'a>,
    ) -> Option<ArenaBox<'a, JSXMemberExpression<'a>>> {
        let namespace = self.namespace_of(identifier)?;
        let object =
            JSXMemberExpressionObject::new_identifier_reference(SPAN, namespace, &self.builder);
        let property = JSXIdentifier::new(identifier.span, identifier.name.as_str(), &self.builder);
        Some(JSXMemberExpression::boxed(identifier.span, object, property, &self.builder))
    }

    /// A function that is a member must not get the namespace as `this`: `(0, N.f)()`.
    fn without_this(&self, callee: &mut Expression<'a>) {
        let function = callee.take_in(&self.builder);
        let zero =
            Expression::new_numeric_literal(SPAN, 0.0, None, NumberBase::Decimal, &self.builder);
        *callee = Expression::new_sequence_expression(SPAN, [zero, function], &self.builder);
    }

    /// `export let a = 1, { b } = c;` as assignments to members.
    fn assignments(
        &mut self,
        declaration: &mut VariableDeclaration<'a>,
        namespace: &'a str,
    ) -> Statement<'a> {
        let mut all = ArenaVec::new_in(&self.builder);
        for variable in declaration.declarations.drain(..) {
            let Some(value) = variable.init else { continue };
            let target = self.target(variable.id, namespace);
            let operator = AssignmentOperator::Assign;
            all.push(Expression::new_assignment_expression(
                variable.span,
                operator,
                target,
                value,
                &self.builder,
            ));
        }
        let expression = match all.len() {
            // Something must stay, or the namespace would be one of types alone.
            0 => Expression::new_void_0(SPAN, &self.builder),
            1 => all.remove(0),
            _ => Expression::new_sequence_expression(SPAN, all, &self.builder),
        };
        Statement::new_expression_statement(declaration.span, expression, &self.builder)
    }

    fn target(&mut self, pattern: BindingPattern<'a>, namespace: &'a str) -> AssignmentTarget<'a> {
        match pattern {
            BindingPattern::BindingIdentifier(id) => {
                let member = self.member(namespace, id.span, id.name.as_str());
                AssignmentTarget::StaticMemberExpression(member)
            }
            BindingPattern::ObjectPattern(object) => {
                let object = object.unbox();
                let mut properties = ArenaVec::new_in(&self.builder);
                for property in object.properties {
                    let value = self.target_or_default(property.value, namespace);
                    properties.push(
                        AssignmentTargetProperty::new_assignment_target_property_property(
                            property.span,
                            property.key,
                            value,
                            property.computed,
                            &self.builder,
                        ),
                    );
                }
                let rest = self.rest(object.rest, namespace);
                AssignmentTarget::new_object_assignment_target(
                    object.span,
                    properties,
                    rest,
                    &self.builder,
                )
            }
            BindingPattern::ArrayPattern(array) => {
                let array = array.unbox();
                let mut elements = ArenaVec::new_in(&self.builder);
                for element in array.elements {
                    elements.push(element.map(|one| self.target_or_default(one, namespace)));
                }
                let rest = self.rest(array.rest, namespace);
                AssignmentTarget::new_array_assignment_target(
                    array.span,
                    elements,
                    rest,
                    &self.builder,
                )
            }
            // Only elements and properties have one, and they are looked at before.
            BindingPattern::AssignmentPattern(pattern) => {
                self.target(pattern.unbox().left, namespace)
            }
        }
    }

    fn target_or_default(
        &mut self,
        pattern: BindingPattern<'a>,
        namespace: &'a str,
    ) -> AssignmentTargetMaybeDefault<'a> {
        match pattern {
            BindingPattern::AssignmentPattern(pattern) => {
                let pattern = pattern.unbox();
                let target = self.target(pattern.left, namespace);
                AssignmentTargetMaybeDefault::new_assignment_target_with_default(
                    pattern.span,
                    target,
                    pattern.right,
                    &self.builder,
                )
            }
            other => AssignmentTargetMaybeDefault::from(self.target(other, namespace)),
        }
    }

    fn rest(
        &mut self,
        rest: Option<ArenaBox<'a, BindingRestElement<'a>>>,
        namespace: &'a str,
    ) -> Option<ArenaBox<'a, AssignmentTargetRest<'a>>> {
        let rest = rest?.unbox();
        let target = self.target(rest.argument, namespace);
        Some(AssignmentTargetRest::boxed(rest.span, target, &self.builder))
    }
}

impl<'a> VisitMut<'a> for Write<'a, '_> {
    fn visit_ts_namespace_declaration(&mut self, declaration: &mut TSNamespaceDeclaration<'a>) {
        if declaration.declare {
            return;
        }
        let name = declaration.id.name.as_str();
        let scope = declaration.scope_id.get();
        if let TSNamespaceDeclarationBody::TSModuleBlock(block) = &mut declaration.body
            && let Some(scope) = scope.filter(|scope| self.blocks.contains(scope))
        {
            for statement in &mut block.body {
                if let Statement::ExportDeclaration(export) = statement
                    && let Declaration::VariableDeclaration(variables) = &mut export.declaration
                    && !variables.declare
                    && !variables.kind.is_const()
                {
                    if is_value(self.scoping, scope, name) {
                        let message = format!(
                            "An export of the namespace `{name}` that changes can't be lowered where `{name}` \
                             means something else; give one of them another name"
                        );
                        self.refused.push(Refusal::new(variables.span, message));
                    }
                    *statement = self.assignments(variables, name);
                }
            }
        }
        walk_mut::walk_ts_namespace_declaration(self, declaration);
    }

    fn visit_expression(&mut self, expression: &mut Expression<'a>) {
        if let Expression::Identifier(identifier) = expression
            && let Some(member) = self.member_for(identifier)
        {
            *expression = Expression::StaticMemberExpression(member);
            return;
        }
        walk_mut::walk_expression(self, expression);
    }

    fn visit_call_expression(&mut self, call: &mut CallExpression<'a>) {
        let was_name = matches!(call.callee, Expression::Identifier(_));
        walk_mut::walk_call_expression(self, call);
        if was_name && !matches!(call.callee, Expression::Identifier(_)) {
            self.without_this(&mut call.callee);
        }
    }

    fn visit_tagged_template_expression(&mut self, template: &mut TaggedTemplateExpression<'a>) {
        let was_name = matches!(template.tag, Expression::Identifier(_));
        walk_mut::walk_tagged_template_expression(self, template);
        if was_name && !matches!(template.tag, Expression::Identifier(_)) {
            self.without_this(&mut template.tag);
        }
    }

    fn visit_simple_assignment_target(&mut self, target: &mut SimpleAssignmentTarget<'a>) {
        if let SimpleAssignmentTarget::AssignmentTargetIdentifier(identifier) = target
            && let Some(member) = self.member_for(identifier)
        {
            *target = SimpleAssignmentTarget::StaticMemberExpression(member);
            return;
        }
        walk_mut::walk_simple_assignment_target(self, target);
    }

    fn visit_object_property(&mut self, property: &mut ObjectProperty<'a>) {
        walk_mut::walk_object_property(self, property);
        property.shorthand &= matches!(property.value, Expression::Identifier(_));
    }

    /// `({ a } = b)` as `({ a: N.a } = b)`.
    fn visit_assignment_target_property(&mut self, property: &mut AssignmentTargetProperty<'a>) {
        if let AssignmentTargetProperty::AssignmentTargetPropertyIdentifier(short) = property
            && let Some(member) = self.member_for(&short.binding)
        {
            let (span, name) = (short.binding.span, short.binding.name.as_str());
            let target = AssignmentTarget::StaticMemberExpression(member);
            let target = match short.init.take() {
                Some(init) => AssignmentTargetMaybeDefault::new_assignment_target_with_default(
                    short.span,
                    target,
                    init,
                    &self.builder,
                ),
                None => AssignmentTargetMaybeDefault::from(target),
            };
            let key = PropertyKey::new_static_identifier(span, name, &self.builder);
            *property = AssignmentTargetProperty::new_assignment_target_property_property(
                short.span,
                key,
                target,
                false,
                &self.builder,
            );
        }
        walk_mut::walk_assignment_target_property(self, property);
    }

    fn visit_jsx_element_name(&mut self, element: &mut JSXElementName<'a>) {
        if let JSXElementName::IdentifierReference(identifier) = element
            && let Some(member) = self.tag_member_for(identifier)
        {
            *element = JSXElementName::MemberExpression(member);
            return;
        }
        walk_mut::walk_jsx_element_name(self, element);
    }

    fn visit_jsx_member_expression_object(&mut self, object: &mut JSXMemberExpressionObject<'a>) {
        if let JSXMemberExpressionObject::IdentifierReference(identifier) = object
            && let Some(member) = self.tag_member_for(identifier)
        {
            *object = JSXMemberExpressionObject::MemberExpression(member);
            return;
        }
        walk_mut::walk_jsx_member_expression_object(self, object);
    }

    /// `import alias = name`.
    fn visit_ts_module_reference(&mut self, reference: &mut TSModuleReference<'a>) {
        if let TSModuleReference::IdentifierReference(identifier) = reference
            && let Some(member) = self.type_member_for(identifier)
        {
            *reference = TSModuleReference::QualifiedName(member);
            return;
        }
        walk_mut::walk_ts_module_reference(self, reference);
    }

    /// `import alias = name.other`.
    fn visit_ts_type_name(&mut self, of: &mut TSTypeName<'a>) {
        if let TSTypeName::IdentifierReference(identifier) = of
            && let Some(member) = self.type_member_for(identifier)
        {
            *of = TSTypeName::QualifiedName(member);
            return;
        }
        walk_mut::walk_ts_type_name(self, of);
    }

    /// Every place where a name may stand has its method above; another one is said and not guessed.
    fn visit_identifier_reference(&mut self, identifier: &mut IdentifierReference<'a>) {
        if self.namespace_of(identifier).is_some() {
            let message = "This use of a member of a namespace can't be lowered yet; write it with its namespace";
            self.refused.push(Refusal::new(identifier.span, message));
        }
    }
}
