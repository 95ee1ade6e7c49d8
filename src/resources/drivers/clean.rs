//! Replaces control characters in the responses of providers with U+FFFD ([`crate::base::input::text`]): PostgreSQL
//! cannot store NUL, and nobody can be asked to correct the text.

use std::sync::Arc;

use crate::{
    base::input::text::{replace_control_characters, replace_control_characters_in},
    resources::{
        drivers::driver::{
            Action, BoxFuture, Capabilities, Driver, DriverError, ListQuery, Object, ObjectPage, Order, Result,
            Unsupported,
        },
        kinds::{Kind, spec::Spec},
    },
};

/// Driver whose responses contain no control characters.
#[derive(Debug)]
pub struct CleanDriver(pub Arc<dyn Driver>);

fn object(mut object: Object) -> Object {
    replace_control_characters(&mut object.reference);
    object.reason.iter_mut().for_each(replace_control_characters);
    for output in object.outputs.values_mut() {
        replace_control_characters_in(output);
    }
    object.spec.texts().into_iter().for_each(replace_control_characters);
    let cleaned = object.spec.map_references(|reference| {
        let mut reference = reference.clone();
        replace_control_characters(&mut reference);
        Some(reference)
    });
    object.spec = cleaned.unwrap_or(object.spec);
    object
}

fn error(mut error: DriverError) -> DriverError {
    replace_control_characters(&mut error.code);
    replace_control_characters(&mut error.message);
    error
}

impl Driver for CleanDriver {
    fn capabilities(&self) -> &Capabilities {
        self.0.capabilities()
    }

    fn validate(&self, spec: &Spec) -> Vec<Unsupported> {
        self.0.validate(spec)
    }

    fn create<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Object>> {
        Box::pin(async move { self.0.create(order).await.map(object).map_err(error) })
    }

    fn read<'a>(&'a self, kind: Kind, reference: &'a str) -> BoxFuture<'a, Result<Option<Object>>> {
        Box::pin(async move { self.0.read(kind, reference).await.map(|found| found.map(object)).map_err(error) })
    }

    fn update<'a>(&'a self, reference: &'a str, order: &'a Order) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.0.update(reference, order).await.map_err(error) })
    }

    fn action<'a>(&'a self, kind: Kind, reference: &'a str, action: Action) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.0.action(kind, reference, action).await.map_err(error) })
    }

    fn delete<'a>(&'a self, kind: Kind, reference: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.0.delete(kind, reference).await.map_err(error) })
    }

    fn list_owned<'a>(&'a self, query: &'a ListQuery) -> BoxFuture<'a, Result<ObjectPage>> {
        Box::pin(async move {
            let page = self.0.list_owned(query).await.map_err(error)?;
            Ok(ObjectPage { objects: page.objects.into_iter().map(object).collect(), ..page })
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::resources::{
        drivers::driver::{DriverErrorKind, ObjectState},
        kinds::spec::InstanceSpec,
    };

    #[test]
    fn objects_and_errors_contain_no_control_characters() {
        let bad = || "a\u{0}b\u{9f}".to_owned();
        let instance = InstanceSpec { size: bad(), image: bad(), network: Some(bad()), volumes: vec![bad()] };
        let seen = object(Object {
            reference: bad(),
            tags: None,
            state: ObjectState::Ready,
            power: None,
            spec: Spec::Instance(instance),
            outputs: Map::from_iter([("ip".to_owned(), json!([bad()]))]),
            reason: Some(bad()),
        });
        let text = format!("{seen:?} {:?}", error(DriverError::new(DriverErrorKind::Invalid, bad(), bad())));
        assert!(!text.contains("\\0") && !text.contains("\\u{9f}"), "{text}");
        assert_eq!(seen.reference, "a\u{fffd}b\u{fffd}");
    }
}
