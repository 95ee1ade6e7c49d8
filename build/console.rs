//! Packs the files of the console: each under a name with a hash of its content, and our modules as one file.

use std::{
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use super::pack;

/// Files of the console.
pub const CONSOLE: &str = "src/console/static";

/// Packs the files, and writes the list that `src/console/assets.rs` includes.
pub fn pack_console(out: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(out)?;
    let source = Path::new(CONSOLE);
    let files = [
        ("CSS", "console.css", "text/css; charset=utf-8", fs::read(source.join("console.css"))?),
        ("JS", "console.js", "text/javascript; charset=utf-8", bundle(&source.join("js"))?.into_bytes()),
        ("HTMX", "htmx.js", "text/javascript; charset=utf-8", fs::read(source.join("htmx.min.js"))?),
        ("MARK", "mark.svg", "image/svg+xml", fs::read("src/server/docs/static/mark.svg")?),
    ];
    let (mut list, mut names) = (String::from("static FILES: &[ConsoleFile] = &[\n"), String::new());
    for (constant, name, media_type, bytes) in files {
        let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
        let hashed = format!("{stem}.{:016x}.{extension}", hash(&bytes));
        pack(out, &hashed, &bytes)?;
        let packed = out.join(format!("{hashed}.gz"));
        writeln!(
            list,
            "ConsoleFile {{ name: {hashed:?}, asset: Asset {{ media_type: {media_type:?}, gzip: include_bytes!({packed:?}) }} }},"
        )?;
        writeln!(names, "/// Path of {name}.\npub const {constant}: &str = \"/console/assets/{hashed}\";")?;
    }
    fs::write(out.join("files.rs"), format!("{list}];\n{names}"))?;
    Ok(())
}

/// Our modules as one module, in the order of their names: imports and exports between them are not needed then.
fn bundle(folder: &Path) -> Result<String, Box<dyn Error>> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    paths.sort();
    let mut bundle = String::new();
    for path in paths {
        for line in fs::read_to_string(&path)?.lines().filter(|line| !line.starts_with("import ")) {
            bundle.push_str(line.strip_prefix("export ").unwrap_or(line));
            bundle.push('\n');
        }
    }
    Ok(bundle)
}

/// FNV-1a. The name only has to change when the content does.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
