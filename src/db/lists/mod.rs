//! Pages of lists whose cost does not depend on the rest of the table: each is read from one index, in the order of the
//! list.

pub mod scan;
