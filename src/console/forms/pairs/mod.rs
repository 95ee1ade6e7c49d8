//! Names with values, such as metadata: one row each, and empty rows for more. Works without scripts.

use askama::Template;
use serde_json::{Map, Value};

use super::Form;
use crate::console::{browser::fields::Fields, components::html_safe};

/// Empty rows below the others.
const EMPTY: usize = 2;

/// Rows of names with values. The fields are `NAME_name` and `NAME_value`, once for each row.
#[derive(Clone, Debug, Template)]
#[template(path = "forms/pairs/pairs.html")]
pub struct Pairs {
    name: String,
    label: String,
    hint: String,
    rows: Vec<(String, String)>,
    faults: Vec<String>,
}

impl Pairs {
    /// The rows of a form.
    pub fn new(form: &Form, name: &str, label: &str, hint: &str) -> Self {
        let mut rows = rows(form.fields(), name);
        rows.retain(|(name, value)| !name.is_empty() || !value.is_empty());
        rows.extend(std::iter::repeat_n(Default::default(), EMPTY));
        Self {
            name: name.to_owned(),
            label: label.to_owned(),
            hint: hint.to_owned(),
            rows,
            faults: form.faults_of(name),
        }
    }
}

fn rows(fields: &Fields, name: &str) -> Vec<(String, String)> {
    let names = fields.all(&format!("{name}_name")).map(|name| name.trim().to_owned()).collect::<Vec<_>>();
    let values = fields.all(&format!("{name}_value")).map(str::to_owned).collect::<Vec<_>>();
    names.into_iter().zip(values).collect()
}

/// First values of the rows.
pub fn with_pairs<'a>(fields: Fields, name: &str, pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> Fields {
    pairs.into_iter().fold(fields, |fields, (key, value)| {
        fields.with(&format!("{name}_name"), key.clone()).with(&format!("{name}_value"), value.clone())
    })
}

/// The submitted rows as an object. A row without a name and a value is left out, so clearing both removes it.
///
/// # Errors
///
/// What is wrong, if a row has no name or a name occurs twice.
pub fn object(form: &Form, name: &str) -> Result<Value, String> {
    let mut object = Map::new();
    for (name, value) in rows(form.fields(), name) {
        if name.is_empty() && value.is_empty() {
            continue;
        }
        if name.is_empty() {
            return Err(format!("Enter a name for the value “{value}”, or clear the value."));
        }
        if object.insert(name.clone(), value.into()).is_some() {
            return Err(format!("The name “{name}” is there twice. Use each name once."));
        }
    }
    Ok(object.into())
}

html_safe!(Pairs);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn submitted(body: &str) -> Form {
        Form::submitted(Fields::parse(body.as_bytes()).unwrap())
    }

    #[test]
    fn rows_become_an_object() {
        let form = submitted("m_name=+a+&m_value=1&m_name=&m_value=&m_name=b&m_value=");
        assert_eq!(object(&form, "m"), Ok(json!({ "a": "1", "b": "" })));
        assert_eq!(object(&submitted(""), "m"), Ok(json!({})));
        assert!(object(&submitted("m_name=&m_value=1"), "m").unwrap_err().contains("Enter a name"));
        assert!(object(&submitted("m_name=a&m_value=1&m_name=a&m_value=2"), "m").unwrap_err().contains("twice"));
    }

    #[test]
    fn values_are_escaped() {
        let form = submitted("m_name=%22%3E%3Cimg%3E&m_value=%3Cscript%3E");
        let html = Pairs::new(&form, "m", "Metadata", "").to_string();
        assert!(!html.contains("<img") && !html.contains("<script"), "{html}");
    }
}
