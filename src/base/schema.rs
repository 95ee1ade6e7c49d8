//! One JSON Schema for each input: it is published in the API's description, and it is what bodies
//! and query strings are checked against, so the two cannot disagree.

use std::collections::BTreeSet;

use jsonschema::{ValidationError, Validator, error::ValidationErrorKind};
use schemars::{JsonSchema, Schema, generate::SchemaSettings, transform::RecursiveTransform};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{
    actor,
    clock::{Day, Timestamp},
    email::Email,
    error::{Item, ItemCode, MAX_ITEMS, Place},
    net::{Cidr, NotANetwork},
    page::{Everything, InProject, ListQuery},
    scope::Scope,
    text::{self, BadText},
};

/// An object that clients send, as a body or as a query string. Implemented by [`input!`].
pub trait Input: JsonSchema + DeserializeOwned + Send + 'static {
    /// Its compiled schema.
    fn rules() -> &'static Rules;
}

/// Makes types [`Input`]s, each with its schema compiled once.
macro_rules! input {
    ($($type:ty),+ $(,)?) => {$(
        impl $crate::base::schema::Input for $type {
            fn rules() -> &'static $crate::base::schema::Rules {
                static RULES: std::sync::LazyLock<$crate::base::schema::Rules> =
                    std::sync::LazyLock::new($crate::base::schema::Rules::of::<$type>);
                &RULES
            }
        }
    )+};
}
pub(crate) use input;

/// As [`input!`], for bodies of PATCH, in which null clears a member.
macro_rules! patch {
    ($($type:ty),+ $(,)?) => {$(
        impl $crate::base::schema::Input for $type {
            fn rules() -> &'static $crate::base::schema::Rules {
                static RULES: std::sync::LazyLock<$crate::base::schema::Rules> =
                    std::sync::LazyLock::new($crate::base::schema::Rules::of_patch::<$type>);
                &RULES
            }
        }
    )+};
}
pub(crate) use patch;

input!(ListQuery<Everything>, ListQuery<InProject>, InProject);

/// How every schema is made, whether to check by or to publish.
pub fn settings() -> SchemaSettings {
    SchemaSettings::draft2020_12().with_transform(RecursiveTransform(plain_enum))
}

/// `oneOf` constants, which is how an enum with a comment on each value is described, becomes `enum`, with
/// the comments in its description: checkers and clients do more with it.
pub fn plain_enum(schema: &mut Schema) {
    let Some(Value::Array(choices)) = schema.get("oneOf") else { return };
    let named = |choice: &Value| Some((choice.get("const")?.clone(), choice.get("description").cloned()));
    let Some(values) = choices.iter().map(named).collect::<Option<Vec<_>>>() else { return };
    let described = values.iter().map(|(value, comment)| {
        format!(
            "- `{}`: {}",
            value.as_str().unwrap_or_default(),
            comment.as_ref().and_then(Value::as_str).unwrap_or_default()
        )
    });
    let own = schema.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    let description = format!("{own}\n\n{}", described.collect::<Vec<_>>().join("\n"));
    schema.remove("oneOf");
    schema.insert("type".into(), "string".into());
    schema.insert("enum".into(), values.into_iter().map(|(value, _)| value).collect::<Vec<_>>().into());
    schema.insert("description".into(), description.trim().into());
}

/// The rules an input must keep.
#[derive(Debug)]
pub struct Rules {
    validator: Validator,
    properties: Map<String, Value>,
    schema: Value,
    requires_members: bool,
    /// Whether null clears a member, instead of standing for an absent one.
    null_clears: bool,
}

impl Rules {
    /// Compiles the schema of `T`.
    ///
    /// # Panics
    /// When the schema is broken, which depends on nothing but the code: a test compiles them all.
    #[allow(clippy::panic, reason = "no request can change what it depends on")]
    pub fn of<T: JsonSchema>() -> Self {
        let schema = settings().into_generator().into_root_schema_for::<T>().to_value();
        let validator = jsonschema::options()
            .should_validate_formats(true)
            // As each type reads it, which may take more or less: the fault is then told at its place.
            .with_format("date-time", |text| Timestamp::parse(text).is_some())
            .with_format("date", |text| Day::parse(text).is_some())
            .with_format("cidr", |text| text.parse::<Cidr>().is_ok())
            .with_format("idn-email", |text| text.parse::<Email>().is_ok())
            .with_format("actor", actor::is_actor)
            .build(&schema)
            .unwrap_or_else(|error| panic!("the schema of {} is broken: {error}", T::schema_name()));
        let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        // Without members nothing is valid.
        let requires_members = !validator.is_valid(&Value::Object(Map::new()));
        Self { validator, properties, schema, requires_members, null_clears: false }
    }

    /// The same for the body of a PATCH.
    pub fn of_patch<T: JsonSchema>() -> Self {
        Self { null_clears: true, ..Self::of::<T>() }
    }

    /// The members there are, each with its schema.
    pub fn properties(&self) -> &Map<String, Value> {
        &self.properties
    }

    /// Whether some member is required.
    pub fn requires_members(&self) -> bool {
        self.requires_members
    }

    /// Takes out the members that are null, unless null clears a member here: elsewhere absent and null mean the same. A
    /// member that there is not stays, to be told as unknown.
    pub fn without_nulls(&self, mut value: Value) -> Value {
        if let Value::Object(members) = &mut value
            && !self.null_clears
        {
            members.retain(|name, member| !member.is_null() || !self.properties.contains_key(name));
        }
        value
    }

    /// The faults of `value`, in the order of their places: all of them, or if there are more than an answer
    /// tells of, one more than that. Every text is held to the rule for texts ([`text::check`]), whatever its schema.
    pub fn faults(&self, value: &Value) -> Vec<Item> {
        let mut faults = Vec::new();
        text_faults(value, &mut String::new(), &mut faults);
        // Telling faults costs more than seeing that there are none.
        if !self.validator.is_valid(value) {
            let broken = self.validator.iter_errors(value).flat_map(|error| self.explain(&error));
            faults.extend(broken.take(MAX_ITEMS + 1));
        }
        faults.sort_by(|a, b| (pointer(a), a.code).cmp(&(pointer(b), b.code)));
        // A value that breaks a list of known values by its type breaks the type as well.
        faults.dedup_by(|a, b| a.place == b.place && a.code == b.code);
        faults.truncate(MAX_ITEMS + 1);
        faults
    }

    /// The schema that holds the rule at `path`.
    fn schema_at(&self, path: &str) -> Option<&Value> {
        let (object, _) = path.rsplit_once('/')?;
        let mut at = &self.schema;
        for step in object.split('/').skip(1) {
            at = at.pointer(&format!("/{step}"))?;
            if step == "$ref" {
                at = self.schema.pointer(at.as_str()?.strip_prefix('#')?)?;
            }
        }
        Some(at)
    }

    /// The members of the object whose rule at `path` in the schema was broken.
    fn members_at(&self, path: &str) -> Option<&Map<String, Value>> {
        self.schema_at(path)?.get("properties")?.as_object()
    }

    /// What a text should look like that breaks the pattern at `path`: in words and by an example, as its schema has them.
    fn form_fault(&self, path: &str, given: &Value) -> String {
        let schema = self.schema_at(path);
        let member = |name: &str| schema.and_then(|schema| schema.get(name));
        let form = member("x-form").and_then(Value::as_str).unwrap_or("in the form that is expected here");
        let example = member("examples").and_then(|examples| examples.get(0)?.as_str());
        // A secret is not said back.
        let is_secret = member("writeOnly") == Some(&Value::Bool(true));
        let given = given.as_str().filter(|_| !is_secret).map(|given| format!("'{}' ", text::shown(given)));
        let remedy = example.map(|example| format!("; write it like {example}"));
        format!("{}is not {form}{}", given.unwrap_or_default(), remedy.unwrap_or_default())
    }

    fn explain(&self, error: &ValidationError<'_>) -> Vec<Item> {
        use ValidationErrorKind as Kind;

        let at = error.instance_path().as_str();
        let name = at.rsplit('/').next().unwrap_or_default();
        let one = |code: ItemCode, detail: String| vec![item(at.to_owned(), code, detail)];
        match error.kind() {
            Kind::Required { property } => {
                let property = property.as_str().unwrap_or_default();
                vec![item(
                    format!("{at}/{}", escape(property)),
                    ItemCode::Required,
                    format!("'{property}' is required; add it"),
                )]
            }
            Kind::AdditionalProperties { unexpected } => unexpected
                .iter()
                .take(MAX_ITEMS + 1)
                .map(|member| {
                    let known = self.members_at(error.schema_path().as_str());
                    let known = known.unwrap_or(&self.properties).keys().map(String::as_str);
                    let hint = match text::nearest(member, known.clone()) {
                        Some(near) => format!("did you mean '{near}'?"),
                        None => match known.collect::<Vec<_>>().join(", ") {
                            list if list.is_empty() => "it takes none".to_owned(),
                            list => format!("known here: {list}"),
                        },
                    };
                    item(
                        format!("{at}/{}", escape(member)),
                        ItemCode::UnknownField,
                        format!("'{}' is not a member of this request; {hint}", text::shown(member)),
                    )
                })
                .collect(),
            Kind::Type { .. } | Kind::Enum { .. } | Kind::AnyOf { .. } if error.instance().is_null() => {
                one(ItemCode::WrongType, "must not be null; give it a value or leave it out".into())
            }
            Kind::Type { kind } => one(ItemCode::WrongType, format!("must be of type {}", type_names(kind))),
            Kind::Enum { options } => unknown_value(at, error.instance(), options),
            Kind::MinLength { limit: 1 } => one(ItemCode::TooShort, "must not be empty".into()),
            Kind::MinLength { limit } => one(ItemCode::TooShort, format!("must have at least {limit} characters")),
            Kind::MaxLength { limit } => one(ItemCode::TooLong, format!("must have at most {limit} characters")),
            Kind::MinItems { limit } => one(ItemCode::TooShort, format!("must have at least {limit} items")),
            Kind::MaxItems { limit } => one(ItemCode::TooLong, format!("must have at most {limit} items")),
            Kind::MaxProperties { limit } => one(ItemCode::TooLong, format!("must have at most {limit} members")),
            Kind::Minimum { limit } => one(ItemCode::OutOfRange, format!("must be at least {limit}")),
            Kind::Maximum { limit } => one(ItemCode::OutOfRange, format!("must be at most {limit}")),
            Kind::UniqueItems => one(ItemCode::OutOfRange, "must not name anything twice".into()),
            Kind::Format { format } => one(ItemCode::InvalidFormat, format_fault(format, error.instance())),
            Kind::Pattern { pattern } if pattern == text::NO_CONTROL_CHARACTERS => {
                one(ItemCode::InvalidCharacters, BadText::ControlCharacter.to_string())
            }
            Kind::Pattern { .. } => {
                one(ItemCode::InvalidFormat, self.form_fault(error.schema_path().as_str(), error.instance()))
            }
            // "This type, or null": the value is not null, so its faults are those of the type.
            Kind::AnyOf { context } => context.iter().take(1).flatten().flat_map(|error| self.explain(error)).collect(),
            // One of several words, each with a description of its own.
            Kind::OneOfNotValid { context } => {
                let words = context.iter().flatten().filter_map(|error| match error.kind() {
                    Kind::Constant { expected_value } => Some(expected_value.as_ref().clone()),
                    _ => None,
                });
                unknown_value(at, error.instance(), &words.collect())
            }
            Kind::PropertyNames { error: inner } => inner_name(at, self.explain(inner)),
            _ => {
                one(ItemCode::InvalidFormat, format!("'{name}' is not valid here; see this operation in /openapi.json"))
            }
        }
    }
}

fn item(pointer: String, code: ItemCode, detail: String) -> Item {
    Item { place: Place::Body(pointer), code, detail }
}

fn pointer(item: &Item) -> &str {
    match &item.place {
        Place::Body(pointer) => pointer,
        Place::Parameter(name) => name,
    }
}

/// RFC 6901 §3.
fn escape(member: &str) -> String {
    member.replace('~', "~0").replace('/', "~1")
}

/// A fault in a member's name, said of the object that has the member.
fn inner_name(at: &str, faults: Vec<Item>) -> Vec<Item> {
    faults
        .into_iter()
        .map(|fault| Item {
            place: Place::Body(at.to_owned()),
            detail: format!("a member's name {}", fault.detail),
            ..fault
        })
        .collect()
}

fn type_names(kind: &jsonschema::error::TypeKind) -> String {
    use jsonschema::error::TypeKind;
    match kind {
        TypeKind::Single(kind) => kind.to_string(),
        // "null" says "or leave it out", which is no news to somebody who sent a value.
        TypeKind::Multiple(kinds) => {
            kinds.iter().map(|kind| kind.to_string()).filter(|kind| kind != "null").collect::<Vec<_>>().join(" or ")
        }
    }
}

fn format_fault(format: &str, given: &Value) -> String {
    let form = match format {
        "date-time" => "an RFC 3339 date-time, such as 2026-03-31T12:00:00Z".into(),
        "date" => "a date, such as 2026-03-31".into(),
        "uri" => "a URL, such as https://example.com/hooks".into(),
        "email" | "idn-email" => "an e-mail address, such as ada@example.com".into(),
        "actor" => actor::form(),
        "cidr" => {
            let given = given.as_str().unwrap_or_default();
            let why = given.parse::<Cidr>().err().unwrap_or(NotANetwork::Malformed);
            return format!("'{}' {why}", text::shown(given));
        }
        other => other.to_owned(),
    };
    format!("must be {form}")
}

/// Adds a fault for each text in `value` with a control character, at its place under `at`.
fn text_faults(value: &Value, at: &mut String, faults: &mut Vec<Item>) {
    if faults.len() > MAX_ITEMS {
        return;
    }
    let length = at.len();
    match value {
        Value::String(text) => {
            if let Err(bad) = text::check(text) {
                faults.push(item(at.clone(), ItemCode::InvalidCharacters, bad.to_string()));
            }
        }
        Value::Array(items) => {
            for (n, value) in items.iter().enumerate() {
                at.push('/');
                at.push_str(&n.to_string());
                text_faults(value, at, faults);
                at.truncate(length);
            }
        }
        Value::Object(members) => {
            for (name, value) in members {
                if let Err(bad) = text::check(name) {
                    let detail = format!("a member's name {bad}");
                    faults.push(item(at.clone(), ItemCode::InvalidCharacters, detail));
                }
                at.push('/');
                at.push_str(&escape(name));
                text_faults(value, at, faults);
                at.truncate(length);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn unknown_value(at: &str, given: &Value, options: &Value) -> Vec<Item> {
    let options: BTreeSet<&str> = options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let Some(given) = given.as_str() else {
        return vec![item(at.to_owned(), ItemCode::WrongType, "must be of type string".into())];
    };
    let is_scope = options.contains(Scope::ProjectsRead.as_str());
    let hint = match text::nearest(given, options.iter().copied()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("use one of: {}", options.iter().copied().collect::<Vec<_>>().join(", ")),
    };
    let (code, what) =
        if is_scope { (ItemCode::UnknownScope, "a scope") } else { (ItemCode::UnknownValue, "a value for this") };
    vec![item(at.to_owned(), code, format!("'{}' is not {what}; {hint}", text::shown(given)))]
}
