//! The usage that the API reports at the end.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    Counted,
    callers::{Kind, request},
};
use crate::{
    harness::client::Client,
    servers::cluster::{Cluster, eventually, text},
};

/// A project's usage by period.
#[derive(Clone, Debug)]
pub struct Report {
    /// The first and the last day of the report.
    pub from: String,
    pub to: String,
    /// By month (`YYYY-MM`): counted requests, including adjustments after the month became final.
    pub months: BTreeMap<String, u64>,
    /// How many of them are adjustments.
    pub late: u64,
}

impl Report {
    pub fn requests(&self) -> u64 {
        self.months.values().sum()
    }
}

/// Waits until each node has flushed everything that it has counted so far. A new project is used on this node only:
/// once its report has a request, everything counted before has been flushed too.
pub async fn all_flushed(cluster: &Cluster) {
    join_all((0..cluster.proxies.len()).map(|node| async move {
        let mut client = cluster.client(u64::try_from(node).unwrap());
        let mut make = async |path: &str, body: Value| {
            let request = Arc::new(cluster.request("POST", path, Some(body)));
            let response = eventually("a new project", async || client.send(node, &request).await).await;
            assert_eq!(response.status, 201, "{response:?}");
            response.json()
        };
        let project = make("/v1/projects", json!({ "name": "to wait with" })).await;
        let key = make("/v1/keys", json!({ "project_id": project["id"], "name": "to wait with" })).await;
        let request = Arc::new(request("GET", "/v1/usage", key["key"].as_str().unwrap(), None));
        eventually(&format!("node {node} has flushed its counters"), async || {
            let report = client.send(node, &request).await?.json();
            (report["requests"].as_u64()? > 0).then_some(())
        })
        .await;
    }))
    .await;
}

impl Counted {
    /// Everything that was counted for a project.
    pub async fn by_month(&self, client: &mut Client, project: usize) -> Report {
        let periods = self.list_as_key(client, project, "/v1/usage/periods?limit=100").await;
        let (first, last) = (periods.first().expect("a period"), periods.last().expect("a period"));
        let mut report = Report {
            from: text(&first["period_start"]),
            to: text(&last["period_end"]),
            months: BTreeMap::new(),
            late: 0,
        };
        for period in &periods {
            let adjustments = period["adjustments"].as_array().expect("a list of adjustments");
            let late: u64 = adjustments.iter().map(|adjustment| number(&adjustment["requests"])).sum();
            let month = text(&period["period_start"])[..7].to_owned();
            report.months.insert(month, number(&period["requests"]) + late);
            report.late += late;
        }
        report
    }

    /// The same by credential: the requests of each caller, and of others, which should be zero.
    pub async fn by_caller(&self, client: &mut Client, project: usize, whole: &Report) -> (Vec<(usize, u64)>, u64) {
        let Report { from, to, .. } = whole;
        let path = format!("/v1/usage/breakdown?from={from}&to={to}&group_by=key,token&limit=100");
        let rows = self.list_as_key(client, project, &path).await;
        let callers = self.callers.all.iter().enumerate().filter(|(_, caller)| caller.project == project);
        let by_caller: Vec<_> = callers
            .map(|(number_of_it, caller)| {
                let (key, token) = match caller.kind {
                    Kind::Session => (Value::Null, Value::Null),
                    Kind::Key => (json!(caller.id), Value::Null),
                    Kind::Token => (Value::Null, json!(caller.id)),
                };
                let of_it = rows.iter().filter(|row| row["key_id"] == key && row["token_id"] == token);
                (number_of_it, of_it.map(|row| number(&row["requests"])).sum())
            })
            .collect();
        let of_all: u64 = rows.iter().map(|row| number(&row["requests"])).sum();
        let of_others = of_all - by_caller.iter().map(|(_, requests)| requests).sum::<u64>();
        (by_caller, of_others)
    }

    /// A whole list, read with one of the project's keys.
    async fn list_as_key(&self, client: &mut Client, project: usize, path: &str) -> Vec<Value> {
        let caller = self.callers.key_of(project);
        let request = request("GET", path, &self.callers.all[caller].secret, None);
        let response = eventually("a report", async || self.send(client, 0, caller, &request).await).await;
        let mut list = response.json();
        assert!(response.is_success() && list["next_cursor"].is_null(), "{response:?}");
        serde_json::from_value(list["data"].take()).expect("a list")
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("expected a count, got {value}"))
}
