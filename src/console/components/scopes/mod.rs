//! Picker of scopes: presets, and one box for each scope, grouped by thing.

use askama::Template;

use crate::{
    base::identity::scope::{Scope, ScopeSet},
    console::{components::html_safe, forms::Form},
};

/// Field with the chosen preset.
pub const PRESET: &str = "preset";
/// Field with the chosen scopes, of which the preset `custom` makes use.
pub const SCOPES: &str = "scopes";

/// Named set of scopes.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Submitted value.
    pub name: &'static str,
    /// Shown text.
    pub label: &'static str,
    /// Explanation.
    pub hint: &'static str,
    contains: fn(Scope) -> bool,
}

/// Presets, the first one for a new form.
pub const PRESETS: [Preset; 3] = [
    Preset {
        name: "read",
        label: "Read-only",
        hint: "Reads everything but the audit trail. For dashboards and monitoring.",
        contains: |scope| scope.is_read() && scope != Scope::AuditRead,
    },
    Preset {
        name: "ci",
        label: "CI",
        hint: "Issues short-lived tokens and manages cloud resources. For pipelines.",
        contains: |scope| {
            use Scope::{
                ComputeRead, ComputeWrite, NetworkRead, NetworkWrite, ProjectsRead, StorageRead, StorageWrite,
                TokensRead, TokensWrite,
            };
            let all = [
                ProjectsRead,
                TokensRead,
                TokensWrite,
                ComputeRead,
                ComputeWrite,
                StorageRead,
                StorageWrite,
                NetworkRead,
                NetworkWrite,
            ];
            all.contains(&scope)
        },
    },
    Preset { name: "full", label: "Full access", hint: "Everything that you may do yourself.", contains: |_| true },
];

impl Preset {
    /// Scopes of the preset.
    pub fn scopes(&self) -> ScopeSet {
        Scope::ALL.iter().copied().filter(|scope| (self.contains)(*scope)).collect()
    }
}

/// Picker of scopes.
#[derive(Clone, Debug, Template)]
#[template(path = "components/scopes/scopes.html")]
pub struct ScopePicker {
    presets: Vec<Choice>,
    is_custom: bool,
    hint: &'static str,
    groups: Vec<Group>,
    faults: Vec<String>,
}

/// Preset as a choice.
#[derive(Clone, Debug)]
struct Choice {
    preset: Preset,
    is_chosen: bool,
    /// Its scopes, for the script that ticks the boxes.
    scopes: String,
}

/// Scopes of one thing.
#[derive(Clone, Debug)]
struct Group {
    title: &'static str,
    scopes: Vec<Item>,
}

/// One scope.
#[derive(Clone, Debug)]
struct Item {
    scope: Scope,
    verb: &'static str,
    is_chosen: bool,
    /// Whether the person has the scope, and can pass it on.
    is_allowed: bool,
}

impl ScopePicker {
    /// The picker of a form. `allowed` are the scopes of the person.
    pub fn new(form: &Form, allowed: ScopeSet) -> Self {
        let chosen = chosen_scopes(form);
        let preset = form.value(PRESET);
        let choice = |preset_of: &Preset| Choice {
            preset: *preset_of,
            is_chosen: preset_of.name == preset,
            scopes: preset_of.scopes().intersection(allowed).to_string(),
        };
        let mut groups: Vec<(&str, Vec<Item>)> = Vec::new();
        for &scope in Scope::ALL {
            let (thing, verb) = scope.as_str().split_once(':').unwrap_or((scope.as_str(), ""));
            let is_chosen = chosen.iter().any(|text| text == scope.as_str());
            let item = Item { scope, verb, is_chosen, is_allowed: allowed.contains(scope) };
            match groups.last_mut() {
                Some((last, items)) if *last == thing => items.push(item),
                _ => groups.push((thing, vec![item])),
            }
        }
        Self {
            presets: PRESETS.iter().map(choice).collect(),
            is_custom: preset == "custom",
            hint: "Give the key only what its program needs. You can change this later.",
            groups: groups.into_iter().map(|(thing, scopes)| Group { title: title(thing), scopes }).collect(),
            faults: form.faults_of(SCOPES),
        }
    }

    /// Explains what to choose.
    #[must_use]
    pub fn hint(self, hint: &'static str) -> Self {
        Self { hint, ..self }
    }
}

/// The scopes that a form asks for: those of the preset, or the ticked ones.
pub fn chosen_scopes(form: &Form) -> Vec<String> {
    let preset = PRESETS.iter().find(|preset| preset.name == form.value(PRESET));
    match preset {
        Some(preset) => preset.scopes().iter().map(|scope| scope.as_str().to_owned()).collect(),
        None => form.fields().all(SCOPES).map(str::to_owned).collect(),
    }
}

/// Like [`chosen_scopes`], without the scopes of a preset that the person does not have. Ticked scopes are sent as they
/// are, so that the API says which one is too much.
pub fn requested_scopes(form: &Form, allowed: ScopeSet) -> Vec<String> {
    let is_preset = PRESETS.iter().any(|preset| preset.name == form.value(PRESET));
    let may = |scope: &String| !is_preset || scope.parse().is_ok_and(|scope| allowed.contains(scope));
    chosen_scopes(form).into_iter().filter(may).collect()
}

fn title(thing: &str) -> &'static str {
    match thing {
        "projects" => "Project",
        "keys" => "Keys",
        "tokens" => "Tokens",
        "users" => "Members",
        "usage" => "Usage",
        "audit" => "Audit log",
        "events" => "Events",
        "webhooks" => "Webhooks",
        "compute" => "Compute",
        "storage" => "Storage",
        "network" => "Network",
        _ => "Other",
    }
}

html_safe!(ScopePicker);
