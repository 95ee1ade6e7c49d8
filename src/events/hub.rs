//! Where one node's tail hands events to the node's readers. Each project with readers has one ring of events, written
//! once for all of them; a reader that falls behind by more than the ring holds is told so.

use std::{
    collections::{HashMap, hash_map},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::body::Bytes;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

use crate::{
    base::{
        error::{Code, Error, Result},
        id::{EventId, ProjectId},
    },
    metrics::text::{Measured, Page},
};

/// How streams are served.
#[derive(Clone, Copy, Debug)]
pub struct StreamOptions {
    /// How many streams one server has open at a time.
    pub most: usize,
    /// How many of them one project has.
    pub most_of_project: usize,
    /// How many events may wait for a reader.
    pub queue: usize,
    /// How long a stream is silent at most.
    pub heartbeat: Duration,
    /// How often a reader looks whether it may go on, while nothing happens and nobody says that it may not.
    pub look: Duration,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            most: 5_000,
            most_of_project: 2_000,
            queue: 512,
            heartbeat: Duration::from_secs(15),
            look: Duration::from_secs(1),
        }
    }
}

/// An event as it goes over the wire, the same bytes for all.
#[derive(Debug)]
pub struct Frame {
    /// Its id.
    pub id: EventId,
    /// The event type, by its current name.
    pub action: String,
    /// What is sent.
    pub bytes: Bytes,
}

/// Shared by the tail and the readers.
#[derive(Debug)]
pub struct Hub {
    /// How streams are served.
    pub options: StreamOptions,
    /// Cancelled when the server closes: readers are told to go elsewhere.
    pub closing: CancellationToken,
    state: Mutex<State>,
    wanted: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Up to where events were handed out; none while nobody reads.
    position: Option<EventId>,
    readers: usize,
    projects: HashMap<ProjectId, Ring>,
}

#[derive(Debug)]
struct Ring {
    sender: broadcast::Sender<Arc<Frame>>,
    readers: usize,
}

impl Hub {
    /// One without readers.
    pub fn new(options: StreamOptions) -> Arc<Self> {
        Arc::new(Self { options, closing: CancellationToken::new(), state: Mutex::default(), wanted: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more reader of `project`.
    pub fn enter(self: &Arc<Self>, project: ProjectId) -> Result<Place> {
        let mut state = self.state();
        if state.readers >= self.options.most {
            return Err(Error::new(
                Code::Overloaded,
                "The server has as many event streams open as it takes; retry in a moment, or read the list of events",
            ));
        }
        let ring = state.projects.entry(project).or_insert_with(|| {
            let (sender, _) = broadcast::channel(self.options.queue.max(1));
            Ring { sender, readers: 0 }
        });
        if ring.readers >= self.options.most_of_project {
            return Err(Error::new(
                Code::LimitReached,
                format!(
                    "The project has {} event streams open on this server, which is as many as it may; close one that nobody reads",
                    ring.readers
                ),
            ));
        }
        ring.readers += 1;
        state.readers += 1;
        Ok(Place { hub: Arc::clone(self), project })
    }

    /// How many streams are open.
    pub fn readers(&self) -> usize {
        self.state().readers
    }

    /// Returns when somebody reads.
    pub async fn wanted(&self) {
        while self.position().is_none() {
            self.wanted.notified().await;
        }
    }

    /// Up to where events were handed out; none while nobody reads.
    pub fn position(&self) -> Option<EventId> {
        self.state().position
    }

    /// Hands out what was sealed after `from` up to `to`. `frame` makes an event's frame, for a project with readers.
    pub fn publish<T>(
        &self,
        (from, to): (EventId, EventId),
        events: impl IntoIterator<Item = (ProjectId, T)>,
        frame: impl Fn(T) -> Option<Frame>,
    ) {
        let mut state = self.state();
        // Whoever came when all had gone has set another position, and is handed what comes after that.
        if state.position != Some(from) {
            return;
        }
        for (project, event) in events {
            if let Some(ring) = state.projects.get(&project)
                && let Some(frame) = frame(event)
            {
                // Nobody may be listening yet; then nobody has been promised this event.
                let _ = ring.sender.send(Arc::new(frame));
            }
        }
        state.position = Some(to);
    }
}

impl Measured for Hub {
    fn tell(&self, page: &mut Page) {
        page.gauge("cloudapi_event_streams", "Event streams that are open.").is(self.readers());
        page.gauge("cloudapi_event_streams_max", "How many this server opens.").is(self.options.most);
    }
}

/// A reader's place. Dropped, it is free for another one.
#[derive(Debug)]
pub struct Place {
    hub: Arc<Hub>,
    project: ProjectId,
}

impl Place {
    /// The hub.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Begins to listen. What comes is everything after the id that is given beside it. `last` is the id that the
    /// sealer gave last, read just now.
    pub fn listen(&self, last: EventId) -> (broadcast::Receiver<Arc<Frame>>, EventId) {
        let mut state = self.hub.state();
        let position = *state.position.get_or_insert(last);
        let receiver = match state.projects.get(&self.project) {
            Some(ring) => ring.sender.subscribe(),
            // As long as there is a place there is its ring.
            None => broadcast::channel(1).1,
        };
        drop(state);
        self.hub.wanted.notify_one();
        (receiver, position)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.hub.state();
        if let hash_map::Entry::Occupied(mut ring) = state.projects.entry(self.project) {
            ring.get_mut().readers -= 1;
            if ring.get().readers == 0 {
                ring.remove();
            }
        }
        state.readers -= 1;
        if state.readers == 0 {
            state.position = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROJECT: ProjectId = ProjectId::from_u128(1);
    const OTHER: ProjectId = ProjectId::from_u128(2);

    fn id(number: u128) -> EventId {
        EventId::from_u128(number)
    }

    fn frame(number: u128) -> Option<Frame> {
        Some(Frame { id: id(number), action: "key.created".into(), bytes: Bytes::new() })
    }

    #[test]
    fn a_reader_is_handed_all_of_its_project_after_the_position_that_it_was_told() {
        let hub = Hub::new(StreamOptions::default());
        let place = hub.enter(PROJECT).unwrap();
        let (mut first, from) = place.listen(id(5));
        assert_eq!((from, hub.position()), (id(5), Some(id(5))));
        hub.publish((id(5), id(7)), [(PROJECT, 6), (OTHER, 7)], frame);
        // What the database says may be behind or ahead of the tail; the tail's word counts.
        let (mut second, from) = place.listen(id(9));
        assert_eq!(from, id(7));
        hub.publish((id(7), id(8)), [(PROJECT, 8)], frame);
        let ids = |receiver: &mut broadcast::Receiver<Arc<Frame>>| {
            std::iter::from_fn(|| receiver.try_recv().ok()).map(|frame| frame.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&mut first), [id(6), id(8)]);
        assert_eq!(ids(&mut second), [id(8)]);
    }

    #[test]
    fn what_was_read_for_readers_that_have_gone_is_not_handed_to_those_who_came_after() {
        let hub = Hub::new(StreamOptions::default());
        let place = hub.enter(PROJECT).unwrap();
        let _ = place.listen(id(5));
        drop(place);
        assert_eq!(hub.position(), None);
        let place = hub.enter(PROJECT).unwrap();
        let (mut receiver, from) = place.listen(id(9));
        hub.publish((id(5), id(7)), [(PROJECT, 6)], frame);
        assert_eq!((from, hub.position()), (id(9), Some(id(9))));
        assert!(receiver.try_recv().is_err());
    }

    #[test]
    fn places_are_limited_by_project_and_in_all_and_free_again() {
        let hub = Hub::new(StreamOptions { most: 2, most_of_project: 1, ..StreamOptions::default() });
        let place = hub.enter(PROJECT).unwrap();
        assert_eq!(hub.enter(PROJECT).unwrap_err().code(), Code::LimitReached);
        let other = hub.enter(OTHER).unwrap();
        assert_eq!(hub.enter(ProjectId::from_u128(3)).unwrap_err().code(), Code::Overloaded);
        drop(place);
        drop(other);
        assert_eq!((hub.readers(), hub.state().projects.len()), (0, 0));
        assert!(hub.enter(PROJECT).is_ok());
    }
}
