//! Protocol between the state machine and its driver: commands and events.

use std::time::Duration;

use crate::resources::{
    drivers::driver::{DriverError, ObjectState},
    engine::lifecycle::OperationOutcome,
    kinds::Power,
};

macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident = $text:literal, $progress:literal;)*) => {
        /// Step of an operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Step { $($(#[$doc])* $step,)* }

        impl Step {
            /// All steps.
            pub const ALL: &'static [Self] = &[$(Self::$step,)*];

            /// Name as stored and shown.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$step => $text,)* }
            }

            /// Progress of an operation at this step, in percent.
            pub const fn progress(self) -> i16 {
                match self { $(Self::$step => $progress,)* }
            }

            /// Parses a stored name.
            pub fn of(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|step| step.as_str() == text)
            }
        }
    };
}

steps! {
    /// Not started.
    Queued = "queued", 0;
    /// Wait until the resources that the spec refers to exist.
    References = "waiting_for_references", 10;
    /// Create the object.
    Creating = "creating", 30;
    /// Change the object until it matches the spec, and wait for that.
    Converging = "converging", 60;
    /// Turn the object off and on again.
    Rebooting = "rebooting", 30;
    /// Read the object.
    Reading = "reading", 30;
    /// Send the desired state to the provider, including tags.
    Applying = "applying", 40;
    /// Delete every object of the resource, and wait until they no longer exist.
    Deleting = "deleting", 50;
    /// The same after a canceled or failed creation.
    Compensating = "compensating", 80;
    /// Change the object back to its previous spec.
    Restoring = "restoring", 80;
    /// Ended.
    Done = "done", 100;
}

/// Observation of an object, compared with the desired state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// The object does not exist.
    Missing,
    /// The object belongs to another resource or deployment.
    Foreign,
    /// The object is being created, changed or deleted.
    Busy,
    /// The object matches the desired state.
    InSync,
    /// The object exists, and its spec differs.
    SpecDiffers,
    /// The object exists, and only its power state differs.
    PowerDiffers(Power),
    /// The object is unusable; with the reason, if known.
    Failed(Option<String>),
}

impl Observation {
    /// Returns the observation of an object in `state`. `power` is the desired and the actual power state.
    pub fn of(
        state: ObjectState,
        reason: Option<String>,
        differs: bool,
        power: (Option<Power>, Option<Power>),
    ) -> Self {
        match (state, power) {
            (ObjectState::Failed, _) => Self::Failed(reason),
            (ObjectState::Busy | ObjectState::Deleting, _) => Self::Busy,
            (ObjectState::Ready, _) if differs => Self::SpecDiffers,
            (ObjectState::Ready, (Some(desired), Some(actual))) if desired != actual => Self::PowerDiffers(desired),
            (ObjectState::Ready, (Some(_), None)) => Self::Busy,
            (ObjectState::Ready, _) => Self::InSync,
        }
    }
}

/// State of the resources that a spec refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ReferenceState {
    /// All exist.
    #[default]
    Ready,
    /// Some are not ready yet.
    Pending,
    /// Some will never exist; with the reason.
    Failed(String),
}

/// Command to the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// List the objects with the resource's tag.
    List,
    /// Create an object.
    Create,
    /// Read the resource's object.
    Read,
    /// Change the object to the desired spec, or to the previous one when restoring.
    Update,
    /// Turn the object on or off.
    SetPower(Power),
    /// Turn the object off and on again.
    Reboot,
    /// Delete the object with this reference.
    Delete(String),
    /// Store the observed state of the object as the desired state.
    AdoptSpec,
    /// Wait and continue later.
    Wait(Pause),
    /// End the operation.
    End(OperationOutcome),
}

/// Reason for a pause, which determines its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Something may become ready.
    Poll,
    /// An attempt failed. The pause is not shorter than the duration, if the provider specified one.
    Backoff(Option<Duration>),
}

/// Event: result of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Objects with the resource's tag, each with whether it is being deleted.
    Found(Vec<(String, bool)>),
    /// An object with this reference was created, now or by an earlier identical call.
    Created(String),
    /// Observation of the object.
    Observed(Observation),
    /// The call was executed or started.
    Done,
    /// The call was rejected.
    Rejected(DriverError),
}
