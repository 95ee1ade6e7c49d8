//! What the database answers with, and what clients, workers and `/readyz` make of it.

mod columns;
mod disk;
mod errcodes;
mod outcome;
mod sqlstates;
mod standby;
