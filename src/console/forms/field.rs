//! A form field with label, hint and errors.

use askama::Template;

use super::Form;
use crate::console::components::html_safe;

/// Form field. It renders its label, its hint, its errors and the control.
#[derive(Clone, Debug, Template)]
#[template(path = "forms/field.html")]
pub struct Field {
    name: String,
    label: String,
    hint: Option<String>,
    value: String,
    kind: Kind,
    choices: Vec<Choice>,
    faults: Vec<String>,
    is_required: bool,
    is_short: bool,
    is_focused: bool,
    autocomplete: &'static str,
    max_length: Option<usize>,
}

/// Control of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One line of text, with the type of the `input` element.
    Input(&'static str),
    /// Several lines.
    Lines,
    /// One of several choices, in a list that opens.
    Select,
    /// One of several choices, all visible.
    Radios,
    /// Any of several choices.
    Checks,
}

/// Choice of a field.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Submitted value.
    pub value: String,
    /// Shown text.
    pub label: String,
    /// Explanation.
    pub hint: Option<String>,
    /// Whether it is chosen.
    pub is_chosen: bool,
}

impl Choice {
    /// Creates a choice.
    pub fn new(value: impl Into<String>, label: impl Into<String>) -> Self {
        Self { value: value.into(), label: label.into(), hint: None, is_chosen: false }
    }

    /// Adds an explanation.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl Form {
    /// One line of text.
    pub fn text(&self, name: &str, label: &str) -> Field {
        Field::new(self, Kind::Input("text"), name, label)
    }

    /// A password, which is never shown again.
    pub fn password(&self, name: &str, label: &str) -> Field {
        Field { value: String::new(), ..Field::new(self, Kind::Input("password"), name, label) }
    }

    /// Several lines of text.
    pub fn lines(&self, name: &str, label: &str) -> Field {
        let value = self.fields().raw(name).unwrap_or_default().to_owned();
        Field { value, ..Field::new(self, Kind::Lines, name, label) }
    }

    /// A list of choices, of which one is chosen.
    pub fn select(&self, name: &str, label: &str, choices: Vec<Choice>) -> Field {
        Field::new(self, Kind::Select, name, label).choices(self, choices)
    }

    /// Choices, of which one is chosen.
    pub fn radios(&self, name: &str, label: &str, choices: Vec<Choice>) -> Field {
        Field::new(self, Kind::Radios, name, label).choices(self, choices)
    }

    /// Choices, of which any are chosen.
    pub fn checks(&self, name: &str, label: &str, choices: Vec<Choice>) -> Field {
        Field::new(self, Kind::Checks, name, label).choices(self, choices)
    }
}

impl Field {
    fn new(form: &Form, kind: Kind, name: &str, label: &str) -> Self {
        Self {
            name: name.to_owned(),
            label: label.to_owned(),
            hint: None,
            value: form.value(name).to_owned(),
            kind,
            choices: Vec::new(),
            faults: form.faults_of(name),
            is_required: false,
            is_short: false,
            is_focused: false,
            autocomplete: "off",
            max_length: None,
        }
    }

    fn choices(mut self, form: &Form, choices: Vec<Choice>) -> Self {
        let name = &self.name;
        let chosen = |choice: Choice| Choice { is_chosen: form.fields().has(name, &choice.value), ..choice };
        self.choices = choices.into_iter().map(chosen).collect();
        self
    }

    /// Explains what to enter.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the type of the `input` element, such as `date`, `email` or `number`.
    #[must_use]
    pub fn kind(mut self, kind: &'static str) -> Self {
        self.kind = Kind::Input(kind);
        self
    }

    /// The browser does not submit the form without a value.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.is_required = true;
        self
    }

    /// A narrow field, for a number or a date.
    #[must_use]
    pub fn short(mut self) -> Self {
        self.is_short = true;
        self
    }

    /// The field has the focus when the page is opened.
    #[must_use]
    pub fn focused(mut self) -> Self {
        self.is_focused = true;
        self
    }

    /// What browsers and password managers fill in.
    #[must_use]
    pub fn autocomplete(mut self, autocomplete: &'static str) -> Self {
        self.autocomplete = autocomplete;
        self
    }

    /// Maximum number of characters.
    #[must_use]
    pub fn max(mut self, characters: usize) -> Self {
        self.max_length = Some(characters);
        self
    }

    /// Ids of the elements that describe the control.
    fn described_by(&self) -> String {
        let hint = self.hint.as_ref().map(|_| format!("h-{}", self.name));
        let faults = (!self.faults.is_empty()).then(|| format!("e-{}", self.name));
        hint.into_iter().chain(faults).collect::<Vec<_>>().join(" ")
    }

    fn is_group(&self) -> bool {
        matches!(self.kind, Kind::Radios | Kind::Checks)
    }

    fn input_type(&self) -> &'static str {
        match self.kind {
            Kind::Input(kind) => kind,
            Kind::Radios => "radio",
            Kind::Checks => "checkbox",
            Kind::Lines | Kind::Select => "",
        }
    }
}

html_safe!(Field);
