//! `guesthouse:identity`: the verified caller of a request.
//!
//! Owns nothing but the translation: who it is was found out before the guest was woken.

use super::callers::{CallersView, HasCallers, current};
use guesthouse_bindings::guesthouse::identity::identity;
use wasmtime::Result;
use wasmtime::component::{Access, Linker};

/// *Link*.
///
/// # Errors
/// The linker has the interface already.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> CallersView<'_>,
) -> Result<()> {
    identity::add_to_linker::<T, HasCallers>(linker, view)
}

impl identity::Host for CallersView<'_> {}

impl<T: 'static> identity::HostWithStore<T> for HasCallers {
    fn caller(mut host: Access<'_, T, Self>) -> Result<Option<identity::Principal>> {
        let caller = current(&mut host)?;
        Ok(caller.and_then(|caller| Some(caller.principal.as_deref()?.clone())))
    }
}
