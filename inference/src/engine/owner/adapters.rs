//! How the owner drives its store: notices to the scheduler, what follows from them to the device or back to the store.

use crate::backend::Backend;
use crate::proto::residency::{Action, AdapterId};
use crate::proto::scheduler::Input;

use super::{EngineError, Owner};

impl<B: Backend> Owner<B> {
    /// Tells the scheduler what happened to adapters. What follows from one notice is carried out before the next is taken: the store keeps from going
    /// what came in again and the scheduler has not heard of.
    pub(super) fn take_notices(&mut self) {
        loop {
            self.carry_out();
            let Some((id, event)) = self.store.as_ref().and_then(|store| store.notice()) else { return };
            self.handle(Input::Adapter { id, event });
        }
    }

    /// Whether a job may name these.
    ///
    /// # Errors
    /// [`EngineError::UnknownAdapter`] for the first that is not here and cannot be fetched.
    pub(super) fn look_for(&mut self, adapters: &[(AdapterId, f32)]) -> Result<(), EngineError> {
        let may_have = |id: AdapterId| self.store.as_ref().is_some_and(|store| store.may_have(id));
        if let Some((id, _)) = adapters.iter().find(|(id, _)| !may_have(*id)) {
            return Err(EngineError::UnknownAdapter(id.0));
        }
        // What came in a moment ago is known to the scheduler before the job that names it, or it would be asked of a peer.
        self.take_notices();
        Ok(())
    }

    pub(super) fn act(&mut self, action: Action) {
        let store = self.store.as_ref().expect("without a store no adapter is known to the scheduler");
        match action {
            Action::Attach { id, slot } => {
                let packed = store.packed(id).expect("there since `Loaded`, until `Unload`");
                self.backend.attach(slot, &packed).expect("it was packed for this model, the slots are the device's");
            }
            Action::Detach(slot) => self.backend.detach(slot),
            action => store.act(action),
        }
    }

    /// Why jobs end that name this one.
    pub(super) fn lost(&self, id: AdapterId) -> EngineError {
        let reason = self.store.as_ref().and_then(|store| store.reason(id));
        let reason = reason.unwrap_or_else(|| "it has not come in time, or there is no room for it".to_owned());
        EngineError::AdapterLost { hash: id.0, reason }
    }
}
