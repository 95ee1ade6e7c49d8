//! The plan of a write: what would happen, before it is applied.

use askama::Template;
use serde_json::{Map, Value};

use crate::{
    console::{
        browser::{Visit, fields::ONCE},
        client::{Call, Fault},
        components::diff::Diff,
        forms::Form,
    },
    resources::api::input::{DryRun, Plan},
};

/// Field that asks for the plan instead of the write.
const STEP: &str = "step";

/// Members that change with every write. They tell nothing about a plan.
const INTERNAL: [&str; 4] = ["etag", "generation", "observed_generation", "status"];

/// Page with the plan of a write. Its form applies the plan or leads back.
#[derive(Template)]
#[template(path = "pages/resources/parts/plan.html")]
pub struct PlanPage {
    /// Title.
    pub title: String,
    /// What is changed.
    pub lead: String,
    /// Path of the form.
    pub action: String,
    /// All fields of the form.
    pub typed: String,
    /// Differences.
    pub diff: Diff,
    /// What the provider does.
    pub effect: String,
    /// Text of the button.
    pub apply: String,
}

/// Whether the person asked for the plan.
pub fn is_requested(visit: &Visit) -> bool {
    visit.fields().get(STEP) == "plan"
}

/// All fields of the submitted form, without the one that asks for the plan. Applying the plan twice is one write.
pub fn typed(form: &Form) -> String {
    let mut fields = form.fields().clone();
    fields.take(STEP);
    fields.take(ONCE);
    fields.with(ONCE, form.once()).pack()
}

/// Asks for the plan of a call.
pub async fn of(visit: &Visit, call: Call) -> Result<Plan, Fault> {
    Ok(visit.api.send::<DryRun>(call.query("dry_run", true)).await?.body.plan)
}

/// Changes of a plan that a person asked for.
pub fn diff(changes: &Map<String, Value>) -> Diff {
    Diff::of_changes(changes.iter().filter(|(member, _)| !INTERNAL.contains(&member.as_str())))
}
