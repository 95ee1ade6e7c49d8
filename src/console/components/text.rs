//! Words for people, made of names of the API.

use serde::Serialize;

/// A text with a capital letter at the beginning.
pub fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

/// A name of the API as words: `in_progress` is "In progress".
pub fn words(name: &str) -> String {
    capitalized(&name.replace('_', " "))
}

/// The name of a value, as the API spells it.
pub fn api_name(value: impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_words() {
        assert_eq!(
            (words("in_progress"), words("active"), words("")),
            ("In progress".into(), "Active".into(), String::new())
        );
        assert_eq!(capitalized("must be in the future"), "Must be in the future");
        assert_eq!((api_name("web-1"), api_name(3)), ("web-1".into(), String::new()));
    }
}
