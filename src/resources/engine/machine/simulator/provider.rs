//! A slow provider, which executes every call that reaches it, however late.

use crate::resources::{
    drivers::driver::{DriverError, DriverErrorKind},
    engine::machine::Event,
    kinds::Power,
};

/// Object at the provider.
#[derive(Clone, Debug)]
pub struct ProviderObject {
    pub reference: String,
    pub token: u32,
    pub spec: u32,
    pub power: Power,
    /// Number of reads for which the object stays busy.
    pub busy: u32,
    pub is_deleting: bool,
}

/// Call that reaches the provider, immediately or late.
#[derive(Clone, Debug)]
pub enum Call {
    Create { token: u32, spec: u32 },
    Update { reference: String, spec: u32 },
    SetPower { reference: String, power: Power },
    Delete { reference: String },
}

#[derive(Clone, Debug)]
pub struct Provider {
    pub objects: Vec<ProviderObject>,
    pub created_count: u32,
    /// Whether calls with the same token create only one object.
    pub supports_client_tokens: bool,
    /// Calls of stopped workers, which arrive when the workers continue.
    pub late_calls: Vec<Call>,
}

impl Provider {
    pub fn find(&mut self, reference: &str) -> Option<&mut ProviderObject> {
        self.objects.iter_mut().find(|object| object.reference == reference)
    }

    pub fn execute(&mut self, call: Call) -> Result<Event, DriverError> {
        let gone = || DriverError::new(DriverErrorKind::NotFound, "gone", "gone");
        match call {
            Call::Create { token, spec } => {
                let known = self.objects.iter().find(|object| self.supports_client_tokens && object.token == token);
                if let Some(known) = known {
                    return Ok(Event::Created(known.reference.clone()));
                }
                self.created_count += 1;
                let reference = format!("thing-{}", self.created_count);
                let object = ProviderObject {
                    reference: reference.clone(),
                    token,
                    spec,
                    power: Power::On,
                    busy: 1,
                    is_deleting: false,
                };
                self.objects.push(object);
                Ok(Event::Created(reference))
            }
            Call::Update { reference, spec } => {
                let object = self.find(&reference).filter(|object| !object.is_deleting).ok_or_else(gone)?;
                (object.spec, object.busy) = (spec, 1);
                Ok(Event::Done)
            }
            Call::SetPower { reference, power } => {
                let object = self.find(&reference).filter(|object| !object.is_deleting).ok_or_else(gone)?;
                (object.power, object.busy) = (power, 1);
                Ok(Event::Done)
            }
            Call::Delete { reference } => {
                if let Some(object) = self.find(&reference) {
                    (object.is_deleting, object.busy) = (true, 1);
                }
                Ok(Event::Done)
            }
        }
    }

    /// Advances time.
    pub fn tick(&mut self) {
        self.objects.retain(|object| !(object.is_deleting && object.busy == 0));
        for object in &mut self.objects {
            object.busy = object.busy.saturating_sub(1);
        }
    }
}
