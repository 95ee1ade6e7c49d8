//! Files that pages load. `build.rs` packs them under names with a hash of their content, so that browsers keep them
//! for good.

use axum::{
    Router,
    extract::Path,
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::http::response::asset::{AcceptedEncoding, Asset, File};

/// File with the hash of its content in its name.
struct ConsoleFile {
    name: &'static str,
    asset: Asset,
}

// `FILES`, `CSS`, `JS`, `HTMX` and `MARK`, made by build/console.rs.
include!(concat!(env!("OUT_DIR"), "/console/files.rs"));

/// Routes of the files.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/console/assets/{file}", get(file))
}

async fn file(Path(name): Path<String>, request: AcceptedEncoding) -> Response {
    let Some(found) = FILES.iter().find(|file| file.name == name) else {
        return (axum::http::StatusCode::NOT_FOUND, "no such file\n").into_response();
    };
    let mut response = File { asset: found.asset, request }.into_response();
    let fixed: [(HeaderName, &'static str); 2] = [
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_together_are_small() {
        let total: usize = FILES.iter().map(|file| file.asset.gzip.len()).sum();
        assert!(total <= 120 * 1024, "{total} bytes");
        for path in [CSS, JS, HTMX, MARK] {
            assert!(FILES.iter().any(|file| path == format!("/console/assets/{}", file.name)), "{path}");
        }
    }
}
