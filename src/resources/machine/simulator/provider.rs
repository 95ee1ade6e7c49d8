//! A slow provider, which executes every call that reaches it, however late.

use crate::resources::{
    driver::{DriverError, Refusal},
    kind::Power,
    machine::Heard,
};

/// Object at the provider.
#[derive(Clone, Debug)]
pub struct Thing {
    pub reference: String,
    pub token: u32,
    pub spec: u32,
    pub power: Power,
    /// Number of reads for which the object stays busy.
    pub busy: u32,
    pub is_going: bool,
}

/// Call that reaches the provider, immediately or late.
#[derive(Clone, Debug)]
pub enum Call {
    Create { token: u32, spec: u32 },
    Update { reference: String, spec: u32 },
    Turn { reference: String, power: Power },
    Delete { reference: String },
}

#[derive(Clone, Debug)]
pub struct Provider {
    pub things: Vec<Thing>,
    pub made: u32,
    /// Whether calls with the same token create only one object.
    pub knows_tokens: bool,
    /// Calls of stopped workers, which arrive when the workers continue.
    pub late: Vec<Call>,
}

impl Provider {
    pub fn find(&mut self, reference: &str) -> Option<&mut Thing> {
        self.things.iter_mut().find(|thing| thing.reference == reference)
    }

    pub fn take(&mut self, call: Call) -> Result<Heard, DriverError> {
        let gone = || DriverError::new(Refusal::NotFound, "gone", "gone");
        match call {
            Call::Create { token, spec } => {
                let known = self.things.iter().find(|thing| self.knows_tokens && thing.token == token);
                if let Some(known) = known {
                    return Ok(Heard::Created(known.reference.clone()));
                }
                self.made += 1;
                let reference = format!("thing-{}", self.made);
                let thing =
                    Thing { reference: reference.clone(), token, spec, power: Power::On, busy: 1, is_going: false };
                self.things.push(thing);
                Ok(Heard::Created(reference))
            }
            Call::Update { reference, spec } => {
                let thing = self.find(&reference).filter(|thing| !thing.is_going).ok_or_else(gone)?;
                (thing.spec, thing.busy) = (spec, 1);
                Ok(Heard::Done)
            }
            Call::Turn { reference, power } => {
                let thing = self.find(&reference).filter(|thing| !thing.is_going).ok_or_else(gone)?;
                (thing.power, thing.busy) = (power, 1);
                Ok(Heard::Done)
            }
            Call::Delete { reference } => {
                if let Some(thing) = self.find(&reference) {
                    (thing.is_going, thing.busy) = (true, 1);
                }
                Ok(Heard::Done)
            }
        }
    }

    /// Advances time.
    pub fn tick(&mut self) {
        self.things.retain(|thing| !(thing.is_going && thing.busy == 0));
        for thing in &mut self.things {
            thing.busy = thing.busy.saturating_sub(1);
        }
    }
}
