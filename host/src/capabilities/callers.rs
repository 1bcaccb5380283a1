//! Which caller a call of a guest is made for.
//!
//! Owns the one question that identity and budget share. An instance that serves one request after the
//! other has one caller at a time. In one that serves several at a time, the caller is found by the task
//! that the call comes from, up to the task that the host started for the request. The danger that shaped
//! it: two requests in one instance, and one is taken for the other.

use crate::auth::Caller;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use wasmtime::component::{Access, GuestTaskId, HasData, ResourceTable};
use wasmtime::{AsContextMut, Result};

/// The callers that an instance works for.
#[derive(Default)]
pub struct Callers {
    only: Option<Arc<Caller>>,
    /// By the task of the request; forgotten when its response has ended.
    of_tasks: Option<BTreeMap<GuestTaskId, Weak<Caller>>>,
}

impl Callers {
    /// The caller of the request that is served from now on; none for no caller.
    pub fn only(&mut self, caller: Option<Arc<Caller>>) {
        self.only = caller;
    }

    /// The caller of the request that is served, if there is one at a time; else of the request that this
    /// task serves.
    #[must_use]
    pub fn find(&self, task: Option<GuestTaskId>) -> Option<Arc<Caller>> {
        match &self.of_tasks {
            None => self.only.clone(),
            Some(tasks) => tasks.get(&task?)?.upgrade(),
        }
    }

    /// Whether the caller is to be found by the task.
    #[must_use]
    pub fn go_by_task(&self) -> bool {
        self.of_tasks.is_some()
    }

    /// The caller of the request that this task serves.
    pub fn of_task(&mut self, task: GuestTaskId, caller: Option<&Arc<Caller>>) {
        let tasks = self.of_tasks.get_or_insert_default();
        tasks.retain(|_, caller| caller.strong_count() > 0);
        // The number of a task that ended may be given to another.
        match caller {
            Some(caller) => tasks.insert(task, Arc::downgrade(caller)),
            None => tasks.remove(&task),
        };
    }
}

/// How an instance sees its callers.
pub struct CallersView<'a> {
    /// The instance's handles.
    pub table: &'a mut ResourceTable,
    /// Who they are.
    pub callers: &'a Callers,
}

/// Names [`CallersView`] for the linker.
pub struct HasCallers;

impl HasData for HasCallers {
    type Data<'a> = CallersView<'a>;
}

/// The caller of the request that this call is made for.
pub(super) fn current<T: 'static>(
    access: &mut Access<'_, T, HasCallers>,
) -> Result<Option<Arc<Caller>>> {
    // The last of the stack is the task that the host started.
    let by_task = access.get().callers.go_by_task();
    let task = if by_task { access.as_context_mut().async_call_stack()?.last() } else { None };
    Ok(access.get().callers.find(task))
}
