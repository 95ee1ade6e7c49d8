//! `/console/projects/{project_id}/usage/download`: the requests of a month by day, key, token and route, as CSV.

use axum::{
    body::{Body, Bytes},
    extract::Path,
    http::{HeaderValue, StatusCode, header},
    response::Response,
    routing::{MethodRouter, get},
};
use futures_util::stream::{self, StreamExt};

use super::breakdown::call;
use crate::{
    api::usage::model::BreakdownRow,
    base::{id::ProjectId, runtime::period::Period},
    console::{
        Console,
        browser::{Visit, visit::PageQuery},
        client::{Call, Fault, List},
        view::Failure,
    },
    http::response::csv,
};

const HEADER: [&str; 7] = ["day", "key_id", "key_name", "token_id", "token_name", "route", "requests"];

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    get(show)
}

async fn show(visit: Visit, Path(project): Path<ProjectId>, PageQuery(query): PageQuery) -> Result<Response, Failure> {
    let current = Period::of(visit.now.date());
    let month: Period = query.get("period").parse().unwrap_or(current);
    let mut groups = call(&visit, project, month, "day,key,token,route");
    let first = match page(&visit, &groups).await {
        // The numbers of single days are not kept for so long.
        Err(fault) if fault.status == StatusCode::BAD_REQUEST => {
            groups = call(&visit, project, month, "key,token,route");
            page(&visit, &groups).await?
        }
        first => first?,
    };
    let mut begin = Vec::new();
    csv::write_row(&HEADER, &mut begin);
    write(&first.data, &mut begin);
    // A response that ends in the middle is an error, so that the browser does not take it for the whole file.
    let rest = stream::unfold(first.next_cursor, move |cursor| {
        let (visit, groups) = (visit.clone(), groups.clone());
        async move {
            let call = groups.query("cursor", cursor?);
            Some(match page(&visit, &call).await {
                Ok(list) => {
                    let mut rows = Vec::new();
                    write(&list.data, &mut rows);
                    (Ok(Bytes::from(rows)), list.next_cursor)
                }
                Err(fault) => (Err(std::io::Error::other(format!("{fault:?}"))), None),
            })
        }
    });
    let mut response = Response::new(Body::from_stream(stream::iter([Ok(Bytes::from(begin))]).chain(rest)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(csv::CSV));
    let file = format!("attachment; filename=\"usage-{project}-{month}.csv\"");
    let file = HeaderValue::try_from(file).map_err(Failure::internal)?;
    response.headers_mut().insert(header::CONTENT_DISPOSITION, file);
    Ok(response)
}

async fn page(visit: &Visit, call: &Call) -> Result<List<BreakdownRow>, Fault> {
    visit.api.send_unrecorded(call).await.map(|reply| reply.body)
}

fn write(rows: &[BreakdownRow], out: &mut Vec<u8>) {
    for row in rows {
        let cells = [
            row.day.map(|day| day.0.to_string()),
            row.key_id.flatten().map(|id| id.to_string()),
            row.key_name.clone().flatten(),
            row.token_id.flatten().map(|id| id.to_string()),
            row.token_name.clone().flatten(),
            row.route.clone().flatten(),
            Some(row.requests.to_string()),
        ];
        csv::write_row(&cells.map(Option::unwrap_or_default), out);
    }
}
