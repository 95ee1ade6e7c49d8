//! Minimal image registry to pull from.

use std::io::Write;

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    routing::get,
};
use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

/// Starts a registry with the image `empty:1`, which has one empty layer; returns its address.
pub async fn start() -> String {
    let digest = |bytes: &[u8]| {
        let hash = Sha256::digest(bytes);
        format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    };
    // An empty tar archive.
    let layer = vec![0; 1024];
    let diff_id = digest(&layer);
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(&layer).unwrap();
    let packed = packed.finish().unwrap();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": { "Cmd": ["/nothing"] },
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
    });
    let config = config.to_string().into_bytes();
    let media = "application/vnd.docker.distribution.manifest.v2+json";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": config.len(), "digest": digest(&config),
        },
        "layers": [{
            "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "size": packed.len(), "digest": digest(&packed),
        }],
    });
    let blob = |bytes: Vec<u8>| (format!("/v2/empty/blobs/{}", digest(&bytes)), get(async move || bytes));
    let ((config_path, config), (layer_path, layer)) = (blob(config), blob(packed));
    let manifest = manifest.to_string();
    let manifest_path = format!("/v2/empty/manifests/{}", digest(manifest.as_bytes()));
    let manifest = get(async move || ([(CONTENT_TYPE, media)], manifest));
    let unknown = json!({ "errors": [{ "code": "MANIFEST_UNKNOWN", "message": "manifest unknown" }] }).to_string();
    let unknown = async move || (StatusCode::NOT_FOUND, [(CONTENT_TYPE, "application/json")], unknown);
    let routes = Router::new()
        .fallback(unknown)
        .route("/v2/", get(async || "{}"))
        .route("/v2/empty/manifests/1", manifest.clone())
        .route(&manifest_path, manifest)
        .route(&config_path, config)
        .route(&layer_path, layer);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address.to_string()
}
