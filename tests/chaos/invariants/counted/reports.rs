//! What the API says of usage in the end.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    Counted, Verdict,
    callers::{Kind, request},
};
use crate::{
    client::Client,
    faults::NEXT_MONTH,
    http::Answer,
    world::{World, eventually},
};

/// Counted requests by month, written `YYYY-MM`.
pub type Months = BTreeMap<String, u64>;

/// Where a clock is set to read a month, in seconds past the month's end.
const THIS_MONTH: i64 = -600;

/// Waits until each node has written down all that it has counted so far. For that a new project is used on it alone:
/// once this is in the report, so is what was counted before.
pub async fn all_flushed(world: &World) {
    join_all((0..world.proxies.len()).map(|node| async move {
        let mut client = world.client(u64::try_from(node).unwrap());
        let mut make = async |path: &str, body: Value| {
            let request = Arc::new(world.request("POST", path, Some(body)));
            let answer = eventually("a project to wait with", async || client.ask(node, &request).await).await;
            assert_eq!(answer.status, 201, "{answer:?}");
            answer.json()
        };
        let project = make("/v1/projects", json!({ "name": "to wait with" })).await;
        let key = make("/v1/keys", json!({ "project_id": project["id"], "name": "to wait with" })).await;
        let request = Arc::new(request("GET", "/v1/usage", key["key"].as_str().unwrap(), None));
        eventually(&format!("node {node} has written down what it counted"), async || {
            let report = client.ask(node, &request).await?.json();
            (report["requests"].as_u64()? > 0).then_some(())
        })
        .await;
    }))
    .await;
}

impl Counted {
    /// All that was counted for a project, with what came in after its month was final.
    pub async fn by_month(&self, world: &World, client: &mut Client, project: usize) -> Months {
        let answer = self.read_as_key(client, project, "/v1/usage/periods?limit=100").await;
        if answer.status == 404 {
            return self.by_month_as_clocks_are_set(world, client, project).await;
        }
        let list = answer.json();
        assert!(answer.is_success() && list["has_more"] != true, "{answer:?}");
        let periods = list["data"].as_array().unwrap_or_else(|| panic!("no list: {answer:?}"));
        let of_period = |period: &Value| {
            let late = period["adjustments"].as_array().into_iter().flatten().map(|late| number(&late["requests"]));
            number(&period["requests"]) + late.sum::<u64>()
        };
        periods.iter().map(|period| (month(period), of_period(period))).collect()
    }

    /// The same from a server that tells of the current month alone: its clock is set to the month before, and back.
    async fn by_month_as_clocks_are_set(&self, world: &World, client: &mut Client, project: usize) -> Months {
        let mut read = async |fits: &dyn Fn(&str) -> bool| {
            eventually("a report of the month that a clock is set to", async || {
                let report = self.read_as_key(client, project, "/v1/usage").await.json();
                fits(&month(&report)).then(|| (month(&report), number(&report["requests"])))
            })
            .await
        };
        let next = read(&|_| true).await;
        world.set_clock(0, THIS_MONTH);
        let this = read(&|month| month != next.0).await;
        world.set_clock(0, NEXT_MONTH);
        read(&|month| month == next.0).await;
        Months::from([this, next])
    }

    /// Where the API tells it by key: none for another's requests, and together all.
    pub async fn check_breakdown(&self, client: &mut Client, project: usize, verdict: &mut Verdict) {
        let (first, last) = ("2000-01-01", "2099-12-31");
        let path = format!("/v1/usage/breakdown?from={first}&to={last}&group_by=key&limit=100");
        let report = async || {
            let answer = self.read_as_key(client, project, &path).await;
            (answer.status != 404).then(|| {
                assert!(answer.is_success(), "{answer:?}");
                answer.json()["data"].as_array().cloned().unwrap_or_else(|| panic!("no list: {answer:?}"))
            })
        };
        let sum = |rows: &[Value]| rows.iter().map(|row| number(&row["requests"])).sum::<u64>();
        let mut keys: Vec<_> = self.callers.all.iter().filter(|caller| caller.project == project).collect();
        keys.retain(|caller| caller.kind == Kind::Key);
        // Before it is asked for: a report cannot hold the request that asks for it.
        let acknowledged = keys.iter().map(|key| self.bounds(|caller| caller.secret == key.secret).acknowledged);
        let acknowledged: Vec<u64> = acknowledged.collect();
        let read = self.read(|caller| caller.project == project, report, |rows: &Vec<Value>| sum(rows)).await;
        let Some((rows, bounds)) = read else { return };
        verdict.require(bounds.hold(sum(&rows)), || format!("by key, {bounds}, but counted were: {rows:?}"));
        for (key, acknowledged) in keys.iter().zip(acknowledged) {
            let of_key: Vec<Value> = rows.iter().filter(|row| row["key_id"] == json!(key.key_id)).cloned().collect();
            // Whether a token's requests are its key's is not decided here.
            let most = self.bounds(|caller| caller.key_id == key.key_id).most();
            verdict.require((acknowledged..=most).contains(&sum(&of_key)), || {
                format!("for {:?} {acknowledged} to {most} should be counted: {of_key:?}", key.key_id)
            });
        }
    }

    async fn read_as_key(&self, client: &mut Client, project: usize, path: &str) -> Answer {
        let caller = self.callers.key_of(project);
        let request = request("GET", path, &self.callers.all[caller].secret, None);
        eventually("a report", async || {
            self.ask(client, 0, caller, &request).await.filter(|answer| answer.status != 503)
        })
        .await
    }
}

/// `YYYY-MM` of a report.
fn month(report: &Value) -> String {
    report["period_start"]
        .as_str()
        .and_then(|day| day.get(..7))
        .unwrap_or_else(|| panic!("no month: {report}"))
        .to_owned()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("a count, not {value}"))
}
