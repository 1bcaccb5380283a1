//! `guesthouse:budget`: what the caller of a request may still spend.
//!
//! Owns the translation, and that a reservation is settled once at most. A guest that drops one, or traps,
//! has spent it.

use super::callers::{CallersView, HasCallers, current};
use guesthouse_bindings::guesthouse::budget::tokens;
use guesthouse_bindings::handles::Reservation;
use wasmtime::Result;
use wasmtime::component::{Access, Linker, Resource};

/// *Link*.
///
/// # Errors
/// The linker has the interface already.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> CallersView<'_>,
) -> Result<()> {
    tokens::add_to_linker::<T, HasCallers>(linker, view)
}

impl tokens::Host for CallersView<'_> {}

impl tokens::HostReservation for CallersView<'_> {}

impl<T: 'static> tokens::HostWithStore<T> for HasCallers {
    fn remaining(mut host: Access<'_, T, Self>) -> Result<Option<u64>> {
        let caller = current(&mut host)?;
        Ok(caller.and_then(|caller| Some(caller.budget.as_ref()?.remaining().0)))
    }

    fn reserve(
        mut host: Access<'_, T, Self>,
        tokens: u64,
    ) -> Result<std::result::Result<Resource<Reservation>, tokens::Exhausted>> {
        let caller = current(&mut host)?;
        let settle: Option<Box<dyn FnOnce(u64) + Send>> =
            match caller.as_ref().and_then(|caller| caller.budget.as_ref()) {
                None => None,
                Some(budget) => match budget.reserve(tokens) {
                    Ok(settle) => Some(Box::new(settle)),
                    Err(exhausted) => {
                        return Ok(Err(tokens::Exhausted {
                            remaining: exhausted.remaining,
                            retry_after: exhausted.retry_after,
                        }));
                    }
                },
            };
        Ok(Ok(host.get().table.push(Reservation { settle })?))
    }

    fn charge(mut host: Access<'_, T, Self>, tokens: u64) -> Result<()> {
        if let Some(caller) = current(&mut host)?
            && let Some(budget) = &caller.budget
        {
            budget.charge(tokens);
        }
        Ok(())
    }
}

impl<T: 'static> tokens::HostReservationWithStore<T> for HasCallers {
    fn settle(
        mut host: Access<'_, T, Self>,
        reservation: Resource<Reservation>,
        spent: u64,
    ) -> Result<()> {
        if let Some(settle) = host.get().table.get_mut(&reservation)?.settle.take() {
            settle(spent);
        }
        Ok(())
    }

    fn drop(mut host: Access<'_, T, Self>, reservation: Resource<Reservation>) -> Result<()> {
        host.get().table.delete(reservation)?;
        Ok(())
    }
}
