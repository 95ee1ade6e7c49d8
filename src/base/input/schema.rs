//! JSON Schema of each input. The same schema is published in the OpenAPI document and validates bodies and query
//! strings, so that the two cannot differ.

use std::collections::BTreeSet;

use jsonschema::{ValidationError, Validator, error::ValidationErrorKind};
use schemars::{JsonSchema, Schema, generate::SchemaSettings, transform::RecursiveTransform};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{
    email::Email,
    net::{Cidr, ParseCidrError},
    page::{ListQuery, NoFilter, ProjectIdFilter},
    text::{self, BadText},
};
use crate::base::{
    error::{Item, ItemCode, ItemLocation, MAX_ITEMS},
    identity::{actor, scope::Scope},
    runtime::clock::{Day, Timestamp},
};

/// Body or query string, parsed.
#[derive(Debug)]
pub struct ParsedInput {
    /// Value.
    pub value: Value,
    /// Whether any text of the value, or any name of a member, violates [`text::check`].
    pub has_bad_text: bool,
}

/// Object that clients send, as a body or as a query string. Implemented by [`input!`].
pub trait Input: JsonSchema + DeserializeOwned + Send + 'static {
    /// Compiled schema.
    fn rules() -> &'static Rules;
}

/// Implements [`Input`] for types. The schema of each is compiled once.
macro_rules! input {
    ($($type:ty),+ $(,)?) => {$(
        impl $crate::base::input::schema::Input for $type {
            fn rules() -> &'static $crate::base::input::schema::Rules {
                static RULES: std::sync::LazyLock<$crate::base::input::schema::Rules> =
                    std::sync::LazyLock::new($crate::base::input::schema::Rules::of::<$type>);
                &RULES
            }
        }
    )+};
}
pub(crate) use input;

/// Like [`input!`], for bodies of PATCH, in which null clears a member.
macro_rules! patch {
    ($($type:ty),+ $(,)?) => {$(
        impl $crate::base::input::schema::Input for $type {
            fn rules() -> &'static $crate::base::input::schema::Rules {
                static RULES: std::sync::LazyLock<$crate::base::input::schema::Rules> =
                    std::sync::LazyLock::new($crate::base::input::schema::Rules::of_patch::<$type>);
                &RULES
            }
        }
    )+};
}
pub(crate) use patch;

input!(ListQuery<NoFilter>, ListQuery<ProjectIdFilter>, ProjectIdFilter);

/// Settings for the generation of all schemas, for validation and publication.
pub fn settings() -> SchemaSettings {
    SchemaSettings::draft2020_12().with_transform(RecursiveTransform(plain_enum))
}

/// Converts `oneOf` constants, which describe an enum with a comment on each value, to `enum`, with the comments in the
/// description, because validators and client generators support `enum` better.
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

/// Validation rules of an input.
#[derive(Debug)]
pub struct Rules {
    validator: Validator,
    properties: Map<String, Value>,
    schema: Value,
    requires_members: bool,
    /// Whether null clears a member. Otherwise, null means an omitted member.
    null_clears: bool,
}

impl Rules {
    /// Compiles the schema of `T`.
    ///
    /// # Panics
    /// Panics if the schema is invalid, which depends only on the code. A test compiles all schemas.
    #[allow(clippy::panic, reason = "no request can change what it depends on")]
    pub fn of<T: JsonSchema>() -> Self {
        let schema = settings().into_generator().into_root_schema_for::<T>().to_value();
        let validator = jsonschema::options()
            .should_validate_formats(true)
            // The formats are those that the types parse, so that an error has the location of its member.
            .with_format("date-time", |text| Timestamp::parse(text).is_some())
            .with_format("date", |text| Day::parse(text).is_some())
            .with_format("cidr", |text| text.parse::<Cidr>().is_ok())
            .with_format("idn-email", |text| text.parse::<Email>().is_ok())
            .with_format("actor", actor::is_actor)
            .build(&schema)
            .unwrap_or_else(|error| panic!("the schema of {} is broken: {error}", T::schema_name()));
        let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        // An object without members is invalid.
        let requires_members = !validator.is_valid(&Value::Object(Map::new()));
        Self { validator, properties, schema, requires_members, null_clears: false }
    }

    /// Compiles the schema of `T` for the body of a PATCH.
    pub fn of_patch<T: JsonSchema>() -> Self {
        Self { null_clears: true, ..Self::of::<T>() }
    }

    /// Known members, each with its schema.
    pub fn properties(&self) -> &Map<String, Value> {
        &self.properties
    }

    /// Whether at least one member is required.
    pub fn requires_members(&self) -> bool {
        self.requires_members
    }

    /// Removes members that are null, unless null clears a member: otherwise, null means an omitted member. Keeps
    /// unknown members, so that they are reported.
    pub fn without_nulls(&self, mut input: ParsedInput) -> ParsedInput {
        if let Value::Object(members) = &mut input.value
            && !self.null_clears
        {
            members.retain(|name, member| !member.is_null() || !self.properties.contains_key(name));
        }
        input
    }

    /// Returns the validation errors of `input`, in the order of their locations, but at most one more than a response
    /// reports. Every text must also satisfy [`text::check`], regardless of its schema.
    pub fn faults(&self, input: &ParsedInput) -> Vec<Item> {
        let mut faults = Vec::new();
        if input.has_bad_text {
            text_faults(&input.value, &mut String::new(), &mut faults);
        }
        self.add_schema_faults(&input.value, faults)
    }

    /// Like [`Rules::faults`], for a value whose texts were checked before.
    pub fn schema_faults(&self, value: &Value) -> Vec<Item> {
        self.add_schema_faults(value, Vec::new())
    }

    fn add_schema_faults(&self, value: &Value, mut faults: Vec<Item>) -> Vec<Item> {
        // Collecting errors is slower than checking that there are none.
        if !self.validator.is_valid(value) {
            let broken = self.validator.iter_errors(value).flat_map(|error| self.explain(&error));
            faults.extend(broken.take(MAX_ITEMS + 1));
        }
        faults.sort_by(|a, b| (pointer(a), a.code).cmp(&(pointer(b), b.code)));
        // A value of the wrong type violates both its type and its list of known values.
        faults.dedup_by(|a, b| a.location == b.location && a.code == b.code);
        faults.truncate(MAX_ITEMS + 1);
        faults
    }

    /// Returns the schema that contains the rule at `path`.
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

    /// Returns the known members of the object whose rule at `path` was violated.
    fn members_at(&self, path: &str) -> Option<&Map<String, Value>> {
        self.schema_at(path)?.get("properties")?.as_object()
    }

    /// Describes the expected format of a text that violates the pattern at `path`, with the description and the
    /// example of its schema.
    fn form_fault(&self, path: &str, given: &Value) -> String {
        let schema = self.schema_at(path);
        let member = |name: &str| schema.and_then(|schema| schema.get(name));
        let form = member("x-form").and_then(Value::as_str).unwrap_or("in the expected format");
        let example = member("examples").and_then(|examples| examples.get(0)?.as_str());
        // A secret is not repeated in the error.
        let is_secret = member("writeOnly") == Some(&Value::Bool(true));
        let given = given.as_str().filter(|_| !is_secret).map(|given| format!("'{}' ", text::excerpt(given)));
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
                            list if list.is_empty() => "no members are allowed".to_owned(),
                            list => format!("known members: {list}"),
                        },
                    };
                    item(
                        format!("{at}/{}", escape(member)),
                        ItemCode::UnknownField,
                        format!("'{}' is not a member of this request; {hint}", text::excerpt(member)),
                    )
                })
                .collect(),
            Kind::Type { .. } | Kind::Enum { .. } | Kind::AnyOf { .. } if error.instance().is_null() => {
                one(ItemCode::WrongType, "must not be null; set a value or omit it".into())
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
            Kind::UniqueItems => one(ItemCode::OutOfRange, "must not contain duplicates".into()),
            Kind::Format { format } => one(ItemCode::InvalidFormat, format_fault(format, error.instance())),
            Kind::Pattern { pattern } if pattern == text::NO_CONTROL_CHARACTERS => {
                one(ItemCode::InvalidCharacters, BadText::ControlCharacter.to_string())
            }
            Kind::Pattern { .. } => {
                one(ItemCode::InvalidFormat, self.form_fault(error.schema_path().as_str(), error.instance()))
            }
            // "This type, or null": the value is not null, so the errors of the type apply.
            Kind::AnyOf { context } => context.iter().take(1).flatten().flat_map(|error| self.explain(error)).collect(),
            // One of several words, each with its own description.
            Kind::OneOfNotValid { context } => {
                let words = context.iter().flatten().filter_map(|error| match error.kind() {
                    Kind::Constant { expected_value } => Some(expected_value.as_ref().clone()),
                    _ => None,
                });
                unknown_value(at, error.instance(), &words.collect())
            }
            Kind::PropertyNames { error: inner } => inner_name(at, self.explain(inner)),
            _ => one(ItemCode::InvalidFormat, format!("'{name}' is invalid; see this operation in /openapi.json")),
        }
    }
}

fn item(pointer: String, code: ItemCode, detail: String) -> Item {
    Item { location: ItemLocation::Body(pointer), code, detail }
}

fn pointer(item: &Item) -> &str {
    match &item.location {
        ItemLocation::Body(pointer) => pointer,
        ItemLocation::Parameter(name) => name,
    }
}

/// Escapes a member name for a JSON Pointer (RFC 6901 §3).
fn escape(member: &str) -> String {
    member.replace('~', "~0").replace('/', "~1")
}

/// Reports errors of a member name at the object that has the member.
fn inner_name(at: &str, faults: Vec<Item>) -> Vec<Item> {
    faults
        .into_iter()
        .map(|fault| Item {
            location: ItemLocation::Body(at.to_owned()),
            detail: format!("a member name {}", fault.detail),
            ..fault
        })
        .collect()
}

fn type_names(kind: &jsonschema::error::TypeKind) -> String {
    use jsonschema::error::TypeKind;
    match kind {
        TypeKind::Single(kind) => kind.to_string(),
        // "null" means that the member can be omitted, which does not help a client that sent a value.
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
        "email" | "idn-email" => "an email address, such as ada@example.com".into(),
        "actor" => actor::form(),
        "cidr" => {
            let given = given.as_str().unwrap_or_default();
            let why = given.parse::<Cidr>().err().unwrap_or(ParseCidrError::Malformed);
            return format!("'{}' {why}", text::excerpt(given));
        }
        other => other.to_owned(),
    };
    format!("must be {form}")
}

/// Adds an error for each text in `value` with a control character, at its location under `at`.
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
                    let detail = format!("a member name {bad}");
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
        if is_scope { (ItemCode::UnknownScope, "a scope") } else { (ItemCode::UnknownValue, "a valid value") };
    vec![item(at.to_owned(), code, format!("'{}' is not {what}; {hint}", text::excerpt(given)))]
}
