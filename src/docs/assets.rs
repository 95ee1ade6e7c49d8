//! The files that the pages are made of: Swagger UI's and our own. `build.rs` packs them.

use crate::http::{asset::Asset, extract::Word};

macro_rules! files {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $media_type:literal;)*) => {
        /// A file that the pages are made of.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum DocsFile {
            $($(#[$doc])* $variant,)*
        }

        impl DocsFile {
            /// The file itself.
            pub const fn asset(self) -> Asset {
                match self {
                    $(Self::$variant => Asset {
                        media_type: $media_type,
                        gzip: include_bytes!(concat!(env!("OUT_DIR"), "/docs/", $name, ".gz")),
                    },)*
                }
            }
        }

        impl Word for DocsFile {
            const NOUN: &'static str = "a file of these pages";
            const ALL: &'static [Self] = &[$(Self::$variant,)*];

            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

files! {
    /// How our pages look, and Swagger UI in them.
    Style = "docs.css", "text/css; charset=utf-8";
    /// Starts Swagger UI.
    Script = "docs.js", "text/javascript; charset=utf-8";
    /// The mark in a browser's tab.
    Mark = "mark.svg", "image/svg+xml";
    /// Swagger UI's own style.
    SwaggerStyle = "swagger-ui.css", "text/css; charset=utf-8";
    /// Swagger UI itself.
    SwaggerScript = "swagger-ui-bundle.js", "text/javascript; charset=utf-8";
    /// Swagger UI's licence, which has to go where it goes.
    SwaggerLicence = "swagger-ui-license.txt", "text/plain; charset=utf-8";
}
