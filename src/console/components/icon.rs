//! Icons: outlines of 16 by 16 units, drawn with the color of the text. They are decoration, so screen readers skip them.

use std::fmt;

use super::html_safe;

/// Icon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icon {
    /// Overview.
    Home,
    /// Keys.
    Key,
    /// Tokens.
    Token,
    /// Members.
    People,
    /// Usage.
    Chart,
    /// Audit log.
    Log,
    /// Events.
    Pulse,
    /// Webhooks.
    Hook,
    /// Resources.
    Boxes,
    /// Providers.
    Cloud,
    /// Settings.
    Gear,
    /// Account.
    Person,
    /// Something that needs attention.
    Alert,
    /// Search.
    Search,
    /// Opens a menu.
    Chevron,
    /// Add.
    Plus,
    /// Navigation on a narrow screen.
    Menu,
}

impl Icon {
    const fn path(self) -> &'static str {
        match self {
            Self::Home => "M2.5 7 8 2.5 13.5 7v6.5h-4v-4h-3v4h-4z",
            Self::Key => {
                "M10.5 2.5a3 3 0 1 1-2.6 4.5L2.5 12.4v1.1h2.2v-1.7h1.7v-1.7h1.3l1.3-1.3A3 3 0 0 1 10.5 2.5zM11 5.2h.1"
            }
            Self::Token => "M8 1.8 13.4 5v6L8 14.2 2.6 11V5zM8 8l5.2-3M8 8v6M8 8 2.8 5",
            Self::People => {
                "M6 7.5a2.3 2.3 0 1 0 0-4.6 2.3 2.3 0 0 0 0 4.6zM1.8 13.2c0-2.3 1.9-3.7 4.2-3.7s4.2 1.4 4.2 3.7M10.3 3a2.3 2.3 0 0 1 0 4.4M12 9.8c1.4.5 2.2 1.7 2.2 3.4"
            }
            Self::Chart => "M2.5 13.5h11M4.2 11V8M7.4 11V3.5M10.6 11V6M13 11V4.5",
            Self::Log => "M3.5 2.5h9v11h-9zM6 5.5h4M6 8h4M6 10.5h2.5",
            Self::Pulse => "M1.8 8h2.7l1.8-4.5 3 9L11.2 8h3",
            Self::Hook => {
                "M6.5 6.5a3 3 0 1 1 3.2-.9l2 3.6M6.2 5.9 4 9.6M11.5 9.2a2.6 2.6 0 1 1-2.3 3.3H5.3A2.6 2.6 0 1 1 4 9.6"
            }
            Self::Boxes => "M2.5 2.5h4.8v4.8H2.5zM8.7 2.5h4.8v4.8H8.7zM2.5 8.7h4.8v4.8H2.5zM8.7 8.7h4.8v4.8H8.7z",
            Self::Cloud => "M4.6 12.5a2.9 2.9 0 0 1-.4-5.8 3.9 3.9 0 0 1 7.5-.6 3.2 3.2 0 0 1 .1 6.4z",
            Self::Gear => {
                "M8 10.2a2.2 2.2 0 1 0 0-4.4 2.2 2.2 0 0 0 0 4.4zM8 1.8v2M8 12.2v2M1.8 8h2M12.2 8h2M3.6 3.6 5 5M11 11l1.4 1.4M3.6 12.4 5 11M11 5l1.4-1.4"
            }
            Self::Person => {
                "M8 8a2.8 2.8 0 1 0 0-5.6A2.8 2.8 0 0 0 8 8zM2.8 13.8c.4-2.3 2.5-3.6 5.2-3.6s4.8 1.3 5.2 3.6"
            }
            Self::Alert => "M8 2.2 14.3 13.3H1.7zM8 6.5v3.2M8 11.5h.1",
            Self::Search => "M7 11.5a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9zM10.3 10.3l3.4 3.4",
            Self::Chevron => "M4.5 6.2 8 9.8l3.5-3.6",
            Self::Plus => "M8 3v10M3 8h10",
            Self::Menu => "M2.5 4.5h11M2.5 8h11M2.5 11.5h11",
        }
    }
}

impl fmt::Display for Icon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "<svg class=\"icon\" viewBox=\"0 0 16 16\" width=\"16\" height=\"16\" aria-hidden=\"true\"><path d=\"{}\"/></svg>",
            self.path()
        )
    }
}

html_safe!(Icon);
