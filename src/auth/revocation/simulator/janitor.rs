//! Removal of dead nodes by a node's janitor.

use super::{
    db::Db,
    servers::Kind,
    simulation::{MILLI, Simulation, Via},
};
use crate::db::ServerId;

impl Simulation {
    /// The node's janitor, which reads the stamps if no renewal has read them.
    pub(super) fn run_janitor(&mut self, node: usize) {
        self.schedule_in(node, 1500 * MILLI, move |simulation| simulation.run_janitor(node));
        if std::mem::take(&mut self.nodes[node].has_stamps) {
            return;
        }
        let via = Via::Pool(self.any_connection());
        let read = |db: &mut Db, server: &ServerId| (db.rows(), server.clone());
        self.query(node, via, Kind::Read, read, move |simulation, response| {
            if let Some((rows, server)) = response {
                simulation.remove_dead_nodes(node, &rows, server);
            }
        });
    }

    /// Examines stamps that were read on `server`.
    pub(super) fn remove_dead_nodes(&mut self, node: usize, rows: &[(usize, i64)], server: ServerId) {
        let now = self.clock(node);
        for (gone, stamp) in self.nodes[node].janitor.find_dead(now, rows) {
            // On the same server, because two servers can have equal stamps.
            let same = server.clone();
            let remove = move |db: &mut Db, here: &_| {
                if same == *here {
                    db.remove(gone, stamp);
                }
            };
            let via = Via::Pool(self.any_connection());
            self.query(node, via, Kind::Write, remove, |_, _| {});
        }
    }
}
