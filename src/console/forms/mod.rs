//! Forms: what was typed, and the errors of the API at the fields that they are about.

pub mod body;
mod confirmation;
pub mod field;
pub mod pairs;
pub mod schema;

use askama::Template;
use uuid::Uuid;

use super::{
    browser::fields::{ETAG, Fields, ONCE},
    client::Fault,
    components::{html_safe, text::capitalized},
    view::Failure,
};
use crate::base::error::ItemLocation;
pub use body::Body;
pub use field::{Choice, Field};

/// A form: fields with their values and errors.
#[derive(Clone, Debug)]
pub struct Form {
    fields: Fields,
    faults: Vec<FieldFault>,
    summary: Option<String>,
    once: String,
}

/// Error of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFault {
    /// Field. Empty if the error is about a member that the form does not have.
    pub field: String,
    /// What is wrong, in the words of the API.
    pub detail: String,
}

impl Form {
    /// Creates a form that was not submitted.
    pub fn new(first: Fields) -> Self {
        Self { fields: first, faults: Vec::new(), summary: None, once: new_key() }
    }

    /// Creates a form from what was submitted.
    pub fn submitted(fields: Fields) -> Self {
        let once = fields.get(ONCE).to_owned();
        let once = if once.is_empty() { new_key() } else { once };
        Self { fields, faults: Vec::new(), summary: None, once }
    }

    /// Fields of the form.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// First value of a field, without spaces around it.
    pub fn value(&self, name: &str) -> &str {
        self.fields.get(name)
    }

    /// Idempotency key of the form: the write of a form is executed once.
    pub fn once(&self) -> &str {
        &self.once
    }

    /// Entity tag of the item that the form changes, as it was when the form was shown.
    pub fn etag(&self) -> &str {
        self.fields.get(ETAG)
    }

    /// Adds the errors of a response. `names` are fields whose name differs from their member in the body, as
    /// `(member, field)`. A response that is not about what was typed is a page of its own.
    pub fn rejected(mut self, fault: Fault, names: &[(&str, &str)]) -> Result<Self, Failure> {
        if !fault.is_about_input() {
            return Err(fault.into());
        }
        for item in fault.error.items() {
            let (member, place) = match &item.location {
                ItemLocation::Body(pointer) => member_of(pointer),
                ItemLocation::Parameter(name) => (name.clone(), None),
            };
            let field = self.field_of(&member, names);
            let detail = match place {
                Some(place) if !field.is_empty() => format!("Line {}: {}", place + 1, item.detail),
                _ if field.is_empty() && !member.is_empty() => format!("{member}: {}", item.detail),
                // The field has several members, such as labels.
                None if !field.is_empty() && member.strip_prefix(&field).is_some_and(|rest| rest.starts_with('.')) => {
                    format!("'{}': {}", member.get(field.len() + 1..).unwrap_or_default(), item.detail)
                }
                _ => item.detail.clone(),
            };
            self.faults.push(FieldFault { field, detail: capitalized(&detail) });
        }
        if self.faults.is_empty() {
            self.summary = Some(capitalized(fault.error.detail()));
        }
        // The next attempt is another write.
        self.once = new_key();
        Ok(self)
    }

    /// Adds an error that the console itself found.
    #[must_use]
    pub fn with_fault(mut self, field: &str, detail: &str) -> Self {
        self.faults.push(FieldFault { field: field.to_owned(), detail: detail.to_owned() });
        self.once = new_key();
        self
    }

    /// The form for another attempt, which is another write.
    #[must_use]
    pub fn renewed(mut self) -> Self {
        self.once = new_key();
        self
    }

    /// Whether the form has errors.
    pub fn is_rejected(&self) -> bool {
        !self.faults.is_empty() || self.summary.is_some()
    }

    /// Errors of a field.
    pub fn faults_of(&self, field: &str) -> Vec<String> {
        let of_field = self.faults.iter().filter(|fault| fault.field == field);
        of_field.map(|fault| fault.detail.clone()).collect()
    }

    /// Field of a member: by the given names, by its own name, or by the name of a member around it.
    fn field_of(&self, member: &str, names: &[(&str, &str)]) -> String {
        let mut name = member;
        loop {
            if let Some((_, field)) = names.iter().find(|(member, _)| *member == name) {
                return (*field).to_owned();
            }
            if self.fields.raw(name).is_some() {
                return name.to_owned();
            }
            match name.rsplit_once('.') {
                Some((around, _)) => name = around,
                // Unchecked boxes and empty lists are not submitted, so the field may exist all the same.
                None if !member.is_empty() && !member.contains('.') => return member.to_owned(),
                None => return String::new(),
            }
        }
    }

    /// The list of all errors, for the top of the form.
    pub fn summary(&self) -> Summary {
        Summary { text: self.summary.clone(), faults: self.faults.clone() }
    }

    /// Hidden fields of every form.
    pub fn hidden(&self) -> Hidden {
        Hidden { once: self.once.clone(), etag: None }
    }

    /// Hidden fields of a form that changes an item in this state.
    pub fn hidden_for(&self, etag: &str) -> Hidden {
        Hidden { once: self.once.clone(), etag: Some(etag.to_owned()) }
    }
}

fn new_key() -> String {
    format!("console-{}", Uuid::new_v4())
}

/// Member and position of a JSON pointer: `/allowed_ips/1` is `allowed_ips` and 1, `/rate_limit/requests` is
/// `rate_limit.requests`.
fn member_of(pointer: &str) -> (String, Option<usize>) {
    let mut place = None;
    let parts = pointer.split('/').filter(|part| !part.is_empty());
    let names: Vec<String> = parts
        .filter(|part| match part.parse() {
            Ok(index) => {
                place = place.or(Some(index));
                false
            }
            Err(_) => true,
        })
        .map(|part| part.replace("~1", "/").replace("~0", "~"))
        .collect();
    (names.join("."), place)
}

/// List of all errors of a form.
#[derive(Clone, Debug, Template)]
#[template(path = "forms/summary.html")]
pub struct Summary {
    text: Option<String>,
    faults: Vec<FieldFault>,
}

/// Hidden fields of a form.
#[derive(Clone, Debug, Template)]
#[template(
    source = r#"<input type="hidden" name="_once" value="{{ once }}">{% if let Some(etag) = etag %}<input type="hidden" name="_etag" value="{{ etag }}">{% endif %}"#,
    ext = "html"
)]
pub struct Hidden {
    once: String,
    etag: Option<String>,
}

html_safe!(Summary, Hidden);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::{Code, Error, Item, ItemCode};

    #[test]
    fn errors_are_at_the_fields_of_their_members() {
        let fields = Fields::parse(b"name=x&allowed_ips=a&rate_requests=0&_once=k").unwrap();
        let item = |pointer: &str, detail: &str| Item {
            location: ItemLocation::Body(pointer.into()),
            code: ItemCode::OutOfRange,
            detail: detail.into(),
        };
        let fault = Fault::new(Error::validation(vec![
            item("/name", "is too long"),
            item("/allowed_ips/1", "is not a network"),
            item("/rate_limit/requests", "must be at least 1"),
            item("/scopes", "must have an item"),
            item("", "is wrong"),
        ]));
        let form = Form::submitted(fields).rejected(fault, &[("rate_limit.requests", "rate_requests")]).unwrap();
        assert_eq!(form.faults_of("name"), ["Is too long"]);
        assert_eq!(form.faults_of("allowed_ips"), ["Line 2: is not a network"]);
        assert_eq!(form.faults_of("rate_requests"), ["Must be at least 1"]);
        assert_eq!(form.faults_of("scopes"), ["Must have an item"]);
        assert_eq!(form.faults_of(""), ["Is wrong"]);
        assert!(form.is_rejected() && form.once() != "k", "the next attempt is another write");
        let unavailable = Fault::new(Error::new(Code::Overloaded, "busy"));
        assert!(Form::new(Fields::default()).rejected(unavailable, &[]).is_err());
    }
}
