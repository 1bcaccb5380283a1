//! Members of a namespace that are used where the block that declares them does not reach.
//!
//! Owns what the transformer leaves out of namespaces: a name of one block that another block of the same
//! namespace uses, and exports that change (`export let`). As TypeScript and esbuild do, each such use becomes a
//! member of the namespace, `N.name`. The danger that shaped it: where the name of the namespace means something
//! else, the member can't be written, and that must be an error and no other program.

use crate::members::Write;
use crate::refused::Refusal;
use oxc::allocator::Allocator;
use oxc::ast::ast::{
    Declaration, Program, Statement, TSNamespaceDeclaration, TSNamespaceDeclarationBody,
};
use oxc::semantic::Scoping;
use oxc::syntax::reference::ReferenceId;
use oxc::syntax::scope::ScopeId;
use oxc::syntax::symbol::SymbolFlags;
use std::collections::{HashMap, HashSet};

/// Writes such uses anew. True if there were any: what is known of the program then no longer holds.
pub(crate) fn mend<'a>(
    allocator: &'a Allocator,
    program: &mut Program<'a>,
    scoping: &Scoping,
) -> Result<bool, Vec<Refusal>> {
    let mut namespaces = Namespaces::default();
    let root = Place::Scope(scoping.root_scope_id());
    namespaces.statements(&program.body, root, None);
    if !namespaces.refused.is_empty() {
        return Err(namespaces.refused);
    }
    let uses = namespaces.uses(scoping);
    if uses.is_empty() && !namespaces.changing {
        return Ok(false);
    }
    let blocks = namespaces.blocks.keys().copied().collect();
    Write::new(allocator, scoping, blocks, uses).write(program).map(|()| true)
}

/// Where a namespace is declared: in a scope, or as an export of another namespace, whose blocks share it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    Scope(ScopeId),
    Namespace(usize),
}

/// What a namespace exports under one name.
#[derive(Default)]
struct Member {
    /// The blocks that declare it.
    blocks: HashSet<ScopeId>,
    /// Those that have no constant for it: there it is a member and nothing else.
    changing: HashSet<ScopeId>,
}

struct Block<'a> {
    namespace: usize,
    name: &'a str,
}

#[derive(Default)]
struct Namespaces<'a> {
    known: HashMap<(Place, &'a str), usize>,
    members: Vec<HashMap<&'a str, Member>>,
    blocks: HashMap<ScopeId, Block<'a>>,
    /// Some export changes.
    changing: bool,
    refused: Vec<Refusal>,
}

impl<'a> Namespaces<'a> {
    /// What stands in a file or in a block. `place` is that of what is not exported.
    fn statements(
        &mut self,
        statements: &[Statement<'a>],
        place: Place,
        block: Option<(usize, ScopeId)>,
    ) {
        for statement in statements {
            match statement {
                Statement::TSNamespaceDeclaration(inner) => self.namespace(inner, place),
                Statement::ExportDeclaration(export) => match (&export.declaration, block) {
                    (declaration, Some((namespace, scope))) => {
                        self.export(declaration, namespace, scope);
                    }
                    (Declaration::TSNamespaceDeclaration(inner), None) => {
                        self.namespace(inner, place);
                    }
                    _ => {}
                },
                _ => {}
            }
        }
    }

    fn namespace(&mut self, declaration: &TSNamespaceDeclaration<'a>, place: Place) {
        let Some(scope) = declaration.scope_id.get().filter(|_| !declaration.declare) else {
            return;
        };
        let name = declaration.id.name.as_str();
        let next = self.members.len();
        let namespace = *self.known.entry((place, name)).or_insert(next);
        if namespace == next {
            self.members.push(HashMap::new());
        }
        self.blocks.insert(scope, Block { namespace, name });
        match &declaration.body {
            TSNamespaceDeclarationBody::TSModuleBlock(block) => {
                self.statements(&block.body, Place::Scope(scope), Some((namespace, scope)));
            }
            TSNamespaceDeclarationBody::TSNamespaceDeclaration(inner) => {
                self.member(namespace, scope, inner.id.name.as_str(), false);
                self.namespace(inner, Place::Namespace(namespace));
            }
        }
    }

    fn export(&mut self, declaration: &Declaration<'a>, namespace: usize, scope: ScopeId) {
        let ambient = declaration.declare();
        match declaration {
            Declaration::VariableDeclaration(variables) => {
                let changing = ambient || !variables.kind.is_const();
                self.changing |= changing && !ambient;
                for variable in &variables.declarations {
                    for identifier in variable.id.get_binding_identifiers() {
                        self.member(namespace, scope, identifier.name.as_str(), changing);
                    }
                }
            }
            Declaration::FunctionDeclaration(function) => {
                if let Some(id) =
                    function.id.as_ref().filter(|_| ambient || function.body.is_some())
                {
                    self.member(namespace, scope, id.name.as_str(), ambient);
                }
            }
            Declaration::ClassDeclaration(class) => {
                if let Some(id) = &class.id {
                    self.member(namespace, scope, id.name.as_str(), ambient);
                }
            }
            Declaration::TSEnumDeclaration(found) => {
                let name = found.id.name.as_str();
                if !ambient && self.is_elsewhere(namespace, scope, name) {
                    let message = "An enum that goes on in another block of its namespace can't be put together \
                                   yet; write it in one block";
                    self.refused.push(Refusal::new(found.id.span, message));
                }
                self.member(namespace, scope, name, ambient);
            }
            Declaration::TSImportEqualsDeclaration(import) => {
                self.member(namespace, scope, import.id.name.as_str(), false);
            }
            Declaration::TSNamespaceDeclaration(inner) => {
                self.member(namespace, scope, inner.id.name.as_str(), ambient);
                self.namespace(inner, Place::Namespace(namespace));
            }
            _ => {}
        }
    }

    fn member(&mut self, namespace: usize, scope: ScopeId, name: &'a str, changing: bool) {
        let Some(members) = self.members.get_mut(namespace) else { return };
        let member = members.entry(name).or_default();
        member.blocks.insert(scope);
        if changing {
            member.changing.insert(scope);
        }
    }

    /// An earlier block exports something of this name.
    fn is_elsewhere(&self, namespace: usize, scope: ScopeId, name: &str) -> bool {
        let member = self.members.get(namespace).and_then(|members| members.get(name));
        member.is_some_and(|member| member.blocks.iter().any(|block| *block != scope))
    }

    /// The uses that must become members, and of which namespace.
    fn uses(&self, scoping: &Scoping) -> HashMap<ReferenceId, Use<'a>> {
        let names: HashSet<&str> =
            self.members.iter().flat_map(|members| members.keys().copied()).collect();
        let mut uses = HashMap::new();
        let mut consider = |name: &str, reference: ReferenceId, home: Option<ScopeId>| {
            if let Some(found) = self.used(scoping, name, reference, home) {
                uses.insert(reference, found);
            }
        };
        for (name, references) in scoping.root_unresolved_references() {
            if names.contains(name.as_str()) {
                references.iter().for_each(|reference| consider(name.as_str(), *reference, None));
            }
        }
        for symbol in scoping.symbol_ids() {
            let name = scoping.symbol_name(symbol);
            if names.contains(name) {
                let home = scoping.symbol_scope_id(symbol);
                for reference in scoping.get_resolved_reference_ids(symbol) {
                    consider(name, *reference, Some(home));
                }
            }
        }
        uses
    }

    /// Looks outwards from a use, and stops at what the name means without namespaces: its `home`.
    fn used(
        &self,
        scoping: &Scoping,
        name: &str,
        reference: ReferenceId,
        home: Option<ScopeId>,
    ) -> Option<Use<'a>> {
        let reference = scoping.get_reference(reference);
        if !reference.flags().is_value() || reference.flags().is_value_as_type() {
            return None;
        }
        let mut passed: Vec<ScopeId> = Vec::new();
        for scope in scoping.scope_ancestors(reference.scope_id()) {
            passed.push(scope);
            let is_home = home == Some(scope);
            let block = self.blocks.get(&scope);
            let member = block.and_then(|block| self.members.get(block.namespace)?.get(name));
            if let (Some(block), Some(member)) = (block, member)
                && (!is_home || member.changing.contains(&scope))
            {
                let hidden = passed.iter().any(|scope| is_value(scoping, *scope, block.name));
                return Some(Use { namespace: block.name, hidden });
            }
            if is_home {
                return None;
            }
        }
        None
    }
}

/// Whether a name is that of a value in just this scope.
pub(crate) fn is_value(scoping: &Scoping, scope: ScopeId, name: &str) -> bool {
    let symbol = scoping.get_binding(scope, name.into());
    symbol.is_some_and(|symbol| scoping.symbol_flags(symbol).intersects(SymbolFlags::Value))
}

/// A use of a member.
#[derive(Clone, Copy)]
pub(crate) struct Use<'a> {
    pub(crate) namespace: &'a str,
    /// The name of the namespace means something else there.
    pub(crate) hidden: bool,
}
