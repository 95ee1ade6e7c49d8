//! The SQL texts in the source code.

use crate::source::architecture::sources;

/// Beginnings of SQL texts.
const KEYWORDS: [&str; 5] = ["DELETE ", "INSERT ", "SELECT ", "UPDATE ", "WITH "];
/// Minimum length of a part of a statement that identifies the statement.
const MIN_LENGTH: usize = 24;

/// SQL text in a string literal.
pub struct SqlText {
    pub module: String,
    /// Text, which may be a part of a statement.
    pub sql: String,
    /// Longest part between placeholders, in one line.
    pub fixed_part: String,
}

/// The SQL texts in string literals.
pub fn sql_texts() -> Vec<SqlText> {
    let mut found = Vec::new();
    for (module, source) in sources() {
        for literal in literals(source.split("#[cfg(test)]").next().unwrap_or_default()) {
            let sql = literal.replace("\\\n", " ").replace("\\\"", "\"");
            let text = sql.split_whitespace().collect::<Vec<_>>().join(" ");
            let parts = text.split(['{', '}']).step_by(2).map(str::trim);
            let fixed_part = parts.max_by_key(|part| part.len()).unwrap_or_default().to_owned();
            if KEYWORDS.iter().any(|keyword| text.starts_with(keyword)) && fixed_part.len() >= MIN_LENGTH {
                found.push(SqlText { module: module.clone(), sql, fixed_part });
            }
        }
    }
    found
}

/// The string literals of a source file.
fn literals(source: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(at) = rest.find(['"', '/', '\'']) {
        rest = &rest[at..];
        if rest.starts_with("//") {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") {
            rest = &rest[3..];
        } else if let Some(literal) = rest.strip_prefix('"') {
            let end = end_of_literal(literal);
            found.push(&literal[..end]);
            rest = literal.get(end + 1..).unwrap_or_default();
        } else {
            rest = &rest[1..];
        }
    }
    found
}

fn end_of_literal(text: &str) -> usize {
    let mut is_escaped = false;
    let is_end = |c| {
        let is_end = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_end
    };
    text.find(is_end).unwrap_or(text.len())
}
