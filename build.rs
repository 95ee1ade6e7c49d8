//! Packs the files of the pages under `/docs` and of the console, renders the guides, and rebuilds the crate when a migration is added,
//! because the macro that embeds migrations does not detect new files.

#[path = "build/console.rs"]
mod console;
#[path = "build/guides.rs"]
mod guides;

use std::{
    borrow::Cow,
    env,
    error::Error,
    fmt::Write as _,
    fs,
    io::{Cursor, Read, Write},
    path::{Path, PathBuf},
};

use flate2::{Compression, GzBuilder};
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;

/// Static files of this repository.
const OURS: &str = "src/server/docs/static";
/// Guides in Markdown.
const GUIDES: &str = "docs";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-changed=src/server/docs/page.html");
    println!("cargo:rerun-if-changed={OURS}");
    println!("cargo:rerun-if-changed={}", console::CONSOLE);
    println!("cargo:rerun-if-changed={GUIDES}");
    println!("cargo:rerun-if-changed=README.md");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    console::pack_console(&out.join("console"))?;
    let out = out.join("docs");
    fs::create_dir_all(&out)?;
    for entry in fs::read_dir(OURS)? {
        let path = entry?.path();
        pack(&out, &path.file_name().unwrap_or_default().to_string_lossy(), &fs::read(&path)?)?;
    }

    pack_guides(&out)?;

    // The crate contains a complete, unmodified release of Swagger UI.
    let mut swagger_ui = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED))?;
    pack(&out, "swagger-ui-bundle.js", &released(&mut swagger_ui, "/dist/swagger-ui-bundle.js")?)?;
    let style = String::from_utf8(released(&mut swagger_ui, "/dist/swagger-ui.css")?)?;
    // The last line names a source map, which is not served.
    let style = style.split("\n/*# sourceMappingURL").next().unwrap_or_default();
    pack(&out, "swagger-ui.css", style.as_bytes())?;
    let notice = released(&mut swagger_ui, "/NOTICE")?;
    let license = released(&mut swagger_ui, "/LICENSE")?;
    pack(&out, "swagger-ui-license.txt", &[notice, b"\n".to_vec(), license].concat())
}

/// Writes the page of each guide, the guides' search index, and the list of guides that `src/server/docs/guides.rs` includes.
fn pack_guides(out: &Path) -> Result<(), Box<dyn Error>> {
    let guides = guides::guides(Path::new(GUIDES), Path::new("README.md"))?;
    let mut list = String::from("&[\n");
    for guide in &guides {
        let page = format!(
            include_str!("src/server/docs/page.html"),
            title = guides::escape(&guide.title),
            head = "",
            version = env!("CARGO_PKG_VERSION"),
            reference = "",
            guides = if guide.is_index() { " aria-current=\"page\"" } else { " aria-current=\"true\"" },
            errors = "",
            main = guide.main,
        );
        let file = format!("guide-{}.html", guide.name);
        pack(out, &file, page.as_bytes())?;
        if !guide.is_index() {
            writeln!(list, "Guide {{ name: {:?}, gzip: include_bytes!({:?}) }},", guide.name, format!("{file}.gz"))?;
        }
    }
    fs::write(out.join("guides.rs"), list + "]\n")?;
    pack(out, "guides.json", guides::search_index(&guides).as_bytes())
}

/// Returns the file of the release whose path ends in `end`. Paths begin with the version.
fn released(archive: &mut ZipArchive<Cursor<&[u8]>>, end: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let is_it = |name: &str| name.ends_with(end) && name.matches('/').count() == end.matches('/').count();
    let name = archive.file_names().filter_map(Result::ok).find(|name| is_it(name)).map(Cow::into_owned);
    let name = name.ok_or_else(|| format!("the Swagger UI release does not contain {end}"))?;
    let mut bytes = Vec::new();
    archive.by_name(&name)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Compresses a file without a timestamp, so that builds are reproducible.
fn pack(out: &Path, name: &str, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let file = fs::File::create(out.join(format!("{name}.gz")))?;
    let mut packed = GzBuilder::new().mtime(0).write(file, Compression::best());
    packed.write_all(bytes)?;
    packed.finish()?.flush()?;
    Ok(())
}
