//! What the machine and whoever drives it say to each other.

use std::time::Duration;

use crate::resources::{
    driver::{DriverError, ObjectState},
    kind::Power,
    lifecycle::End,
};

macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident = $text:literal, $progress:literal;)*) => {
        /// What an operation is at.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Step { $($(#[$doc])* $step,)* }

        impl Step {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$step,)*];

            /// The step as it is stored and shown.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$step => $text,)* }
            }

            /// How far an operation at this step has come, in percent.
            pub const fn progress(self) -> i16 {
                match self { $(Self::$step => $progress,)* }
            }

            /// The step that is stored as `text`.
            pub fn of(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|step| step.as_str() == text)
            }
        }
    };
}

steps! {
    /// Nothing.
    Queued = "queued", 0;
    /// Waits until what the spec refers to is there.
    References = "waiting_for_references", 10;
    /// Has the object made.
    Creating = "creating", 30;
    /// Has the object made as asked, and waits until it is.
    Converging = "converging", 60;
    /// Turns the object off and on.
    Rebooting = "rebooting", 30;
    /// Looks at the object.
    Reading = "reading", 30;
    /// Tells the provider what the object shall be, its tags included.
    Applying = "applying", 40;
    /// Has every object of the resource deleted, and waits until they are gone.
    Deleting = "deleting", 50;
    /// The same, because what was begun came to nothing.
    Compensating = "compensating", 80;
    /// Has the object made as it was asked for before.
    Restoring = "restoring", 80;
    /// It has ended.
    Done = "done", 100;
}

/// How an object looks beside what is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// There is none.
    Missing,
    /// It is another resource's, or another deployment's.
    Foreign,
    /// It is on its way to be something.
    Busy,
    /// It is there, and as asked.
    AsAsked,
    /// It is there, and its spec is not as asked.
    Differs,
    /// It is there, and only to be turned on or off.
    Turn(Power),
    /// It is of no use any more; why, if that is known.
    Broken(Option<String>),
}

impl Sight {
    /// How an object stands that differs so, and is to have this power.
    pub fn of(
        state: ObjectState,
        reason: Option<String>,
        differs: bool,
        power: (Option<Power>, Option<Power>),
    ) -> Self {
        match (state, power) {
            (ObjectState::Failed, _) => Self::Broken(reason),
            (ObjectState::Busy | ObjectState::Deleting, _) => Self::Busy,
            (ObjectState::Ready, _) if differs => Self::Differs,
            (ObjectState::Ready, (Some(wanted), Some(actual))) if wanted != actual => Self::Turn(wanted),
            (ObjectState::Ready, (Some(_), None)) => Self::Busy,
            (ObjectState::Ready, _) => Self::AsAsked,
        }
    }
}

/// Whether what the spec refers to is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Referred {
    /// All of it.
    #[default]
    There,
    /// Not yet.
    NotYet,
    /// It will never be.
    Never(String),
}

/// What the engine does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Do {
    /// Lists the objects with the resource's tag.
    LookUp,
    /// Has one made.
    Create,
    /// Looks at the object that is the resource's.
    Read,
    /// Has it made as asked, or as asked before when restoring.
    Update,
    /// Turns it on or off.
    Turn(Power),
    /// Turns it off and on.
    Reboot,
    /// Has the object of this reference deleted.
    Delete(String),
    /// Takes what the object is as what is asked for.
    Learn,
    /// Waits, and goes on later.
    Wait(Pause),
    /// Ends the operation.
    End(End),
}

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Until something may have become ready.
    LookAgain,
    /// After another failure; no less than this, if the provider has said so.
    Failed(Option<Duration>),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// These objects have the resource's tag; each with whether it is on its way out.
    Found(Vec<(String, bool)>),
    /// An object of this reference was made, or had been by the same call.
    Created(String),
    /// The object looks so.
    Seen(Sight),
    /// It was done, or begun.
    Done,
    /// It was refused.
    Refused(DriverError),
}
