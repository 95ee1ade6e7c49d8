//! Tables as CSV (RFC 4180), for people and spreadsheets.

/// Media type.
pub const CSV: &str = "text/csv; charset=utf-8; header=present";

/// Appends a row.
pub fn write_row(cells: &[impl AsRef<str>], out: &mut Vec<u8>) {
    for (index, cell) in cells.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"" } else { b"," });
        out.extend_from_slice(escape(cell.as_ref()).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Quotes a cell. A cell that a spreadsheet would evaluate as a formula gets a leading single quote, which makes it
/// text (OWASP, CSV injection): clients choose names and user agents.
fn escape(cell: &str) -> String {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
    let is_plain = cell.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'-'));
    match (is_formula, is_plain) {
        (false, true) => cell.to_owned(),
        (false, false) => format!("\"{}\"", cell.replace('"', "\"\"")),
        (true, _) => format!("\"'{}\"", cell.replace('"', "\"\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_neutralized_and_delimiters_are_quoted() {
        for (cell, written) in [
            ("key.created", "key.created"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\r\nlines", "\"two\r\nlines\""),
            ("=1+1", "\"'=1+1\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("\t=1", "\"'\t=1\""),
            ("＝1", "\"'＝1\""),
            ("::1", "::1"),
        ] {
            assert_eq!(escape(cell), written, "{cell:?}");
        }
    }
}
