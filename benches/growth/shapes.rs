//! The measured requests: a list, its filters and a page.

use std::fmt;

use super::{lists::List, samples::Sample};

/// Project with most of the rows of the large database.
pub const LARGE_PROJECT: usize = 0;
/// Project with 60 rows of each kind, in both databases.
pub const SMALL_PROJECT: usize = 1;

/// Page of a list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// First page, oldest first.
    First,
    /// Page ten thousand, oldest first.
    Deep,
    /// First page, newest first.
    FirstDescending,
    /// The page before the cursor of [`Position::Deep`], newest first.
    DeepDescending,
}

impl Position {
    const ALL: [Self; 4] = [Self::First, Self::Deep, Self::FirstDescending, Self::DeepDescending];

    /// Whether the page needs a cursor.
    pub fn is_deep(self) -> bool {
        matches!(self, Self::Deep | Self::DeepDescending)
    }

    /// Whether the newest rows come first.
    pub fn is_descending(self) -> bool {
        matches!(self, Self::FirstDescending | Self::DeepDescending)
    }

    /// First page in the same order.
    pub fn first(self) -> Self {
        if self.is_descending() { Self::FirstDescending } else { Self::First }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::First => "first",
            Self::Deep => "deep",
            Self::FirstDescending => "first desc",
            Self::DeepDescending => "deep desc",
        })
    }
}

/// Measured request.
#[derive(Clone)]
pub struct Shape {
    /// Index of the list.
    pub list: usize,
    /// Filters, each with its value.
    pub filters: Vec<(String, Sample)>,
    /// Page.
    pub position: Position,
    /// [`LARGE_PROJECT`] or [`SMALL_PROJECT`].
    pub project: usize,
    /// Whether a key calls, instead of a session.
    pub with_key: bool,
}

impl Shape {
    /// The filters, with the frequency of each value.
    pub fn filters_text(&self) -> String {
        let texts: Vec<String> = self
            .filters
            .iter()
            .map(|(name, Sample { frequency, value })| match *frequency {
                "" => format!("{name}={value}"),
                frequency => format!("{name}={value} ({frequency})"),
            })
            .collect();
        if texts.is_empty() { "-".into() } else { texts.join(" ") }
    }

    /// The page, and the project and the credential if they are not the usual ones.
    pub fn position_text(&self) -> String {
        let project = if self.project == SMALL_PROJECT { ", small project" } else { "" };
        let credential = if self.with_key { ", key" } else { "" };
        format!("{}{project}{credential}", self.position)
    }

    /// Whether this is the request `other`.
    pub fn is_same(&self, other: &Self) -> bool {
        let place = |shape: &Self| (shape.list, shape.position, shape.project, shape.with_key);
        place(self) == place(other) && self.filters_text() == other.filters_text()
    }
}

/// Returns the requests of all lists with `selected` in their path.
pub fn all(lists: &[List], selected: &str) -> Vec<Shape> {
    let mut shapes = Vec::new();
    for (index, list) in lists.iter().enumerate().filter(|(_, list)| list.path.contains(selected)) {
        for filters in filter_sets(list) {
            let shape = |position, project, with_key| Shape {
                list: index,
                filters: filters.clone(),
                position,
                project,
                with_key,
            };
            shapes.extend(Position::ALL.map(|position| shape(position, LARGE_PROJECT, !list.accepts_session)));
            // The database does not see the credential, so one of both measures the filters.
            if filters.is_empty() && list.accepts_session && list.accepts_key {
                shapes.extend(Position::ALL.map(|position| shape(position, LARGE_PROJECT, true)));
            }
            // Rows of the large project must not slow down the small one.
            if list.is_in_project || list.path.contains('{') {
                shapes.push(shape(Position::First, SMALL_PROJECT, !list.accepts_session));
            }
        }
    }
    shapes
}

/// No filter, each value of each filter, and each pair of values of two filters.
fn filter_sets(list: &List) -> Vec<Vec<(String, Sample)>> {
    let mut sets = vec![Vec::new()];
    for filter in &list.filters {
        let values = filter.samples.iter().chain(&filter.others);
        sets.extend(values.map(|sample| vec![(filter.name.clone(), sample.clone())]));
    }
    for (index, one) in list.filters.iter().enumerate() {
        for other in &list.filters[index + 1..] {
            for first in &one.samples {
                for second in &other.samples {
                    sets.push(vec![(one.name.clone(), first.clone()), (other.name.clone(), second.clone())]);
                }
            }
        }
    }
    sets
}
