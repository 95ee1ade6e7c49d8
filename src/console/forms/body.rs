//! JSON bodies from forms. Text that is not what a member needs is sent as it is, so that the API says what is wrong.

use serde_json::{Map, Value};

use super::Form;

/// Body of a call, from the fields of a form. A field that is empty is left out.
#[derive(Debug)]
pub struct Body<'a> {
    form: &'a Form,
    members: Map<String, Value>,
}

impl<'a> Body<'a> {
    /// Starts a body.
    pub fn of(form: &'a Form) -> Self {
        Self { form, members: Map::new() }
    }

    /// Sets a member.
    #[must_use]
    pub fn set(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.members.insert(member.to_owned(), value.into());
        self
    }

    /// Sets a member unless the value is absent.
    #[must_use]
    pub fn set_some(self, member: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.set(member, value),
            None => self,
        }
    }

    /// A text, from the field of the same name.
    #[must_use]
    pub fn text(self, member: &str) -> Self {
        let value = self.form.value(member).to_owned();
        self.set_some(member, Some(value).filter(|value| !value.is_empty()))
    }

    /// A number, from the field of the same name.
    #[must_use]
    pub fn number(self, member: &str) -> Self {
        let value = number(self.form.value(member));
        self.set_some(member, value)
    }

    /// A list of all values of a field, such as check boxes.
    #[must_use]
    pub fn list(self, member: &str) -> Self {
        let values: Vec<Value> = self.form.fields().all(member).map(Into::into).collect();
        self.set(member, values)
    }

    /// A list with one item for each line that is not empty.
    #[must_use]
    pub fn lines(self, member: &str) -> Self {
        let lines = self.form.value(member).lines().map(str::trim).filter(|line| !line.is_empty());
        let lines: Vec<Value> = lines.map(Into::into).collect();
        self.set_some(member, Some(lines).filter(|lines| !lines.is_empty()))
    }

    /// The body.
    pub fn build(self) -> Value {
        self.members.into()
    }
}

/// A number of a form field, or its text if it is not a number. `None` if it is empty.
pub fn number(text: &str) -> Option<Value> {
    match text.parse::<i64>() {
        _ if text.is_empty() => None,
        Ok(number) => Some(number.into()),
        Err(_) => Some(text.into()),
    }
}
