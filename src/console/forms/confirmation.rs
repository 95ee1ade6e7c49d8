//! The name that a person types before something is removed, so that a click alone removes nothing.

use super::{Field, Form};

const FIELD: &str = "confirmation";

impl Form {
    /// Field for the confirmation. `what` is to be typed: "name of the key".
    pub fn confirmation(&self, what: &str) -> Field {
        self.text(FIELD, &format!("Type the {what} to confirm")).required()
    }

    /// What was typed, without spaces around it.
    pub fn typed_confirmation(&self) -> &str {
        self.value(FIELD)
    }

    /// Whether the name was typed. Spaces around it do not count.
    pub fn is_confirmed(&self, name: &str) -> bool {
        self.typed_confirmation() == name.trim()
    }

    /// The form with the error that something else was typed than the `what`: "name of the key".
    #[must_use]
    pub fn unconfirmed(self, what: &str) -> Self {
        self.with_fault(FIELD, &format!("This is not the {what}."))
    }
}
