//! Static files of the HTML pages: Swagger UI's and our own. `build.rs` compresses them.

use crate::http::{request::extract::KnownValue, response::asset::Asset};

macro_rules! files {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $media_type:literal;)*) => {
        /// Static file of the HTML pages.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum DocsFile {
            $($(#[$doc])* $variant,)*
        }

        impl DocsFile {
            /// Returns the file.
            pub const fn asset(self) -> Asset {
                match self {
                    $(Self::$variant => Asset {
                        media_type: $media_type,
                        gzip: include_bytes!(concat!(env!("OUT_DIR"), "/docs/", $name, ".gz")),
                    },)*
                }
            }
        }

        impl KnownValue for DocsFile {
            const NOUN: &'static str = "a documentation file";
            const ALL: &'static [Self] = &[$(Self::$variant,)*];

            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

files! {
    /// Style of the pages and of Swagger UI in them.
    Style = "docs.css", "text/css; charset=utf-8";
    /// Script that starts Swagger UI.
    Script = "docs.js", "text/javascript; charset=utf-8";
    /// Script of the search box.
    SearchScript = "search.js", "text/javascript; charset=utf-8";
    /// Icon.
    Mark = "mark.svg", "image/svg+xml";
    /// Style of Swagger UI.
    SwaggerStyle = "swagger-ui.css", "text/css; charset=utf-8";
    /// Script of Swagger UI.
    SwaggerScript = "swagger-ui-bundle.js", "text/javascript; charset=utf-8";
    /// License of Swagger UI, which must be distributed with it.
    SwaggerLicence = "swagger-ui-license.txt", "text/plain; charset=utf-8";
}
