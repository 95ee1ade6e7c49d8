//! Fields of a submitted form, as text. The API checks them.

use std::fmt::Write as _;

use crate::{
    base::{
        error::{Code, Error, Result},
        input::text::{decode_form, form_pairs},
    },
    console::client::call::encode,
};

/// Field with the idempotency key of the form.
pub const ONCE: &str = "_once";
/// Field with the entity tag of the item that the form changes.
pub const ETAG: &str = "_etag";
/// Field with the password that confirms a write.
pub const PASSWORD: &str = "_password";
/// Field with the one-time sign-in link that confirms a write.
pub const LINK: &str = "_link";
/// Field with all fields of another form, which is submitted or shown after the person has signed in again.
pub const TYPED: &str = "_typed";
/// Field that submits the other form instead of showing it.
pub const AGAIN: &str = "_again";

/// Submitted fields, in order. A name can occur several times.
#[derive(Clone, Debug, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Parses the body of a form.
    pub fn parse(body: &[u8]) -> Result<Self> {
        let malformed = |detail: String| Error::new(Code::MalformedRequest, detail);
        let text = std::str::from_utf8(body).map_err(|_| malformed("The form is not UTF-8".into()))?;
        let decode = |text: &str| decode_form(text).map_err(|bad| malformed(format!("The form {bad}")));
        let fields = form_pairs(text).map(|(name, value)| Ok((decode(name)?, decode(value)?)));
        fields.collect::<Result<_>>().map(Self)
    }

    /// The first value of a field, without spaces around it. Empty if the form does not have the field.
    pub fn get(&self, name: &str) -> &str {
        self.raw(name).map(str::trim).unwrap_or_default()
    }

    /// The first value of a field as it was typed.
    pub fn raw(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of a field, such as those of check boxes.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Whether a field has this value, such as a check box.
    pub fn has(&self, name: &str, value: &str) -> bool {
        self.all(name).any(|found| found == value)
    }

    /// Whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a field, for the first values of a form.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.push((name.to_owned(), value.into()));
        self
    }

    /// Replaces fields by those of the same name in `others`, such as values that a link suggests.
    #[must_use]
    pub fn overridden(mut self, others: &Self) -> Self {
        let names: Vec<String> = self.0.iter().map(|(name, _)| name.clone()).collect();
        self.0.retain(|(name, _)| others.raw(name).is_none());
        self.0.extend(others.0.iter().filter(|(name, _)| names.contains(name)).cloned());
        self
    }

    /// Removes a field and returns its first value.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let value = self.raw(name).map(str::to_owned);
        self.0.retain(|(found, _)| found != name);
        value
    }

    /// All fields but passwords as one text, for a hidden field.
    pub fn pack(&self) -> String {
        let mut packed = String::new();
        for (name, value) in self.0.iter().filter(|(name, _)| !name.contains("password")) {
            let separator = if packed.is_empty() { "" } else { "&" };
            let _ = write!(packed, "{separator}{}={}", encode(name), encode(value));
        }
        packed
    }

    /// Replaces the fields by those that are packed in one of them. Returns whether there is such a field.
    pub fn unpack(&mut self, name: &str) -> bool {
        let Some(packed) = self.take(name) else { return false };
        let again = self.raw(AGAIN).is_some();
        // What was packed here can be parsed. Anything else is an empty form.
        *self = Self::parse(packed.as_bytes()).unwrap_or_default();
        if again {
            self.0.push((AGAIN.to_owned(), String::new()));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_fields_are_the_same_without_passwords() {
        let mut fields =
            Fields::parse("name=a+b%26c&scopes=x&scopes=y%3Az&current_password=p&empty=".as_bytes()).unwrap();
        let mut outer = Fields::default().with(TYPED, fields.pack());
        assert!(outer.unpack(TYPED));
        assert_eq!(outer.get("name"), "a b&c");
        assert_eq!(outer.all("scopes").collect::<Vec<_>>(), ["x", "y:z"]);
        assert_eq!((outer.raw("current_password"), outer.raw("empty")), (None, Some("")));
        assert_eq!(fields.take("name").as_deref(), Some("a b&c"));
        assert!(fields.has("scopes", "y:z") && !fields.has("name", "a b&c") && !fields.unpack(TYPED));
    }

    #[test]
    fn malformed_form_is_rejected() {
        for body in ["a=%zz", "a=%ff"] {
            assert!(Fields::parse(body.as_bytes()).is_err(), "{body}");
        }
        assert!(Fields::parse(b"\xff").is_err());
    }
}
