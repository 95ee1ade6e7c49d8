//! Pages of lists whose cost does not depend on the rest of the table: [`scan`] reads one index in the order of the
//! list, and [`merge`] the rows of several groups.

pub mod merge;
pub mod scan;
