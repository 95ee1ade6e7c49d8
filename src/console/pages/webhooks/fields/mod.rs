//! Fields of a webhook, for the forms that create and change one.

use askama::Template;
use serde_json::{Map, Value};

use crate::{
    api::webhooks::model::WebhookView,
    base::{action::Action, error::Code},
    console::{
        browser::fields::Fields,
        client::Fault,
        components::html_safe,
        forms::{Choice, Field, Form},
        view::Failure,
    },
};

/// Field that says whether all types are sent, or the ticked ones.
const SELECTION: &str = "selection";
/// Field with the ticked types.
const TYPES: &str = "event_types";
const SOME: &str = "some";

/// Fields of a webhook.
#[derive(Clone, Debug, Template)]
#[template(path = "pages/webhooks/fields/fields.html")]
pub struct WebhookFields {
    url: Field,
    description: Field,
    selection: Field,
    families: Vec<Family>,
    faults: Vec<String>,
    enabled: Field,
}

html_safe!(WebhookFields);

/// Event types about one kind of object.
#[derive(Clone, Debug)]
struct Family {
    title: String,
    types: Vec<Item>,
}

/// One event type.
#[derive(Clone, Debug)]
struct Item {
    name: &'static str,
    verb: String,
    meaning: &'static str,
    is_chosen: bool,
}

/// First values for a new webhook.
pub fn of_new() -> Fields {
    Fields::default().with(SELECTION, "all").with("enabled", "true")
}

/// First values for an existing webhook.
pub fn of_webhook(webhook: &WebhookView) -> Fields {
    let mut fields = Fields::default()
        .with("url", webhook.url.clone())
        .with("description", webhook.description.clone())
        .with(SELECTION, if webhook.event_types.is_empty() { "all" } else { SOME });
    for kind in &webhook.event_types {
        fields = fields.with(TYPES, kind.to_string());
    }
    if webhook.enabled { fields.with("enabled", "true") } else { fields }
}

impl WebhookFields {
    /// The fields of a form.
    pub fn new(form: &Form) -> Self {
        let mut families: Vec<(&str, Vec<Item>)> = Vec::new();
        for action in Action::events() {
            let name = action.as_str();
            let (family, verb) = name.split_once('.').unwrap_or((name, name));
            let item = Item {
                name,
                verb: verb.replace('_', " "),
                meaning: action.description(),
                is_chosen: form.fields().has(TYPES, name),
            };
            match families.iter_mut().find(|(known, _)| *known == family) {
                Some((_, types)) => types.push(item),
                None => families.push((family, vec![item])),
            }
        }
        let selections = vec![Choice::new("all", "All events"), Choice::new(SOME, "Events of certain types")];
        Self {
            url: form
                .text("url", "URL")
                .hint("Where your receiver listens: an https address on the public Internet.")
                .kind("url")
                .max(2048)
                .required()
                .focused(),
            description: form
                .text("description", "Description")
                .hint("What the receiver does with the events.")
                .max(500),
            selection: form
                .select(SELECTION, "Events", selections)
                .hint("All events include those of types that later releases add."),
            families: families.into_iter().map(|(family, types)| Family { title: title(family), types }).collect(),
            faults: form.faults_of(TYPES),
            enabled: form.checks(
                "enabled",
                "Status",
                vec![Choice::new("true", "Enabled").hint("Events of a disabled webhook are not sent later.")],
            ),
        }
    }
}

/// Members of the body, from the fields of a form. No types are all types.
pub fn body(form: &Form) -> Map<String, Value> {
    let types = form.fields().all(TYPES).filter(|_| form.value(SELECTION) == SOME);
    let mut members = Map::new();
    members.insert("url".into(), form.value("url").into());
    members.insert("description".into(), form.value("description").into());
    members.insert(TYPES.into(), types.collect());
    members.insert("enabled".into(), form.fields().has("enabled", "true").into());
    members
}

/// The form with an error, if no type is ticked. For the API, an empty list is all types.
pub fn checked(form: Form) -> Result<Form, Form> {
    let has_types = form.fields().raw(TYPES).is_some();
    match form.value(SELECTION) == SOME && !has_types {
        true => Err(form.with_fault(TYPES, "Tick at least one type, or choose all events.")),
        false => Ok(form),
    }
}

/// Adds the errors of a response. What is wrong with a URL that is not allowed is shown at the URL.
pub fn rejected(form: Form, fault: Fault) -> Result<Form, Failure> {
    match fault.code() {
        Code::UrlNotAllowed => Ok(form.with_fault("url", fault.error.detail())),
        _ => form.rejected(fault, &[]),
    }
}

/// Name of a kind of object: `project` is "Project".
fn title(family: &str) -> String {
    match family {
        "user" => "Member".into(),
        "audit" => "Audit log".into(),
        _ => {
            let mut characters = family.chars();
            characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
        }
    }
}
