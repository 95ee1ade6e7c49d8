//! Passes events from a node's tail to the node's readers. Each project with readers has one channel of events, written
//! once for all of them. A reader that falls behind by more than the channel's capacity gets an error.

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
    metrics::exposition::{Collector, Exposition},
};

/// Settings of event streams.
#[derive(Clone, Copy, Debug)]
pub struct StreamOptions {
    /// Maximum number of open streams per server.
    pub max_streams: usize,
    /// Maximum number of open streams per project and server.
    pub max_streams_per_project: usize,
    /// Maximum number of events queued for a reader.
    pub queue_length: usize,
    /// Maximum time without output on a stream.
    pub heartbeat: Duration,
    /// Interval at which the authorization of idle readers is checked.
    pub check_interval: Duration,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            max_streams: 5_000,
            max_streams_per_project: 2_000,
            queue_length: 512,
            heartbeat: Duration::from_secs(15),
            check_interval: Duration::from_secs(1),
        }
    }
}

/// Event in the format of the stream, shared by all readers.
#[derive(Debug)]
pub struct Frame {
    /// ID of the event.
    pub id: EventId,
    /// Type of the event, by its current name.
    pub action: String,
    /// Bytes that are sent.
    pub bytes: Bytes,
}

/// State that the tail and the readers share.
#[derive(Debug)]
pub struct Hub {
    /// Settings of event streams.
    pub options: StreamOptions,
    /// Canceled on shutdown: readers are asked to reconnect to another server.
    pub closing: CancellationToken,
    state: Mutex<State>,
    reader_joined: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// ID up to which events were published; none while there are no readers.
    position: Option<EventId>,
    readers: usize,
    projects: HashMap<ProjectId, ProjectChannel>,
}

#[derive(Debug)]
struct ProjectChannel {
    sender: broadcast::Sender<Arc<Frame>>,
    readers: usize,
}

impl Hub {
    /// Creates a hub without readers.
    pub fn new(options: StreamOptions) -> Arc<Self> {
        Arc::new(Self {
            options,
            closing: CancellationToken::new(),
            state: Mutex::default(),
            reader_joined: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a reader of `project`, within the limits.
    pub fn reserve(self: &Arc<Self>, project: ProjectId) -> Result<ReaderSlot> {
        let mut state = self.state();
        if state.readers >= self.options.max_streams {
            return Err(Error::new(
                Code::Overloaded,
                "The server has reached its limit of event streams; retry in a moment, or list events instead",
            ));
        }
        let channel = state.projects.entry(project).or_insert_with(|| {
            let (sender, _) = broadcast::channel(self.options.queue_length.max(1));
            ProjectChannel { sender, readers: 0 }
        });
        if channel.readers >= self.options.max_streams_per_project {
            return Err(Error::new(
                Code::LimitReached,
                format!(
                    "The project has reached its limit of {} event streams on this server; close one that is not needed",
                    channel.readers
                ),
            ));
        }
        channel.readers += 1;
        state.readers += 1;
        Ok(ReaderSlot { hub: Arc::clone(self), project })
    }

    /// Number of open streams.
    pub fn readers(&self) -> usize {
        self.state().readers
    }

    /// Waits until there is a reader.
    pub async fn wait_for_reader(&self) {
        while self.position().is_none() {
            self.reader_joined.notified().await;
        }
    }

    /// ID up to which events were published; none while there are no readers.
    pub fn position(&self) -> Option<EventId> {
        self.state().position
    }

    /// Publishes the events sealed after `from` up to `to`. `frame` formats an event, and is called only for projects
    /// with readers.
    pub fn publish<T>(
        &self,
        (from, to): (EventId, EventId),
        events: impl IntoIterator<Item = (ProjectId, T)>,
        frame: impl Fn(T) -> Option<Frame>,
    ) {
        let mut state = self.state();
        // If all readers have left since `from`, a new reader may have set another position and expects only later
        // events.
        if state.position != Some(from) {
            return;
        }
        for (project, event) in events {
            if let Some(channel) = state.projects.get(&project)
                && let Some(frame) = frame(event)
            {
                // Fails without receivers. Then no reader was promised this event.
                let _ = channel.sender.send(Arc::new(frame));
            }
        }
        state.position = Some(to);
    }
}

impl Collector for Hub {
    fn collect(&self, out: &mut Exposition) {
        out.gauge("cloudapi_event_streams", "Open event streams.").value(self.readers());
        out.gauge("cloudapi_event_streams_max", "Maximum number of event streams.").value(self.options.max_streams);
    }
}

/// Slot of a reader. Released on drop.
#[derive(Debug)]
pub struct ReaderSlot {
    hub: Arc<Hub>,
    project: ProjectId,
}

impl ReaderSlot {
    /// Hub that the slot belongs to.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Subscribes to events. Returns the receiver and the ID after which it gets all events. `last` is the last ID that
    /// the sealer has assigned, read immediately before.
    pub fn subscribe(&self, last: EventId) -> (broadcast::Receiver<Arc<Frame>>, EventId) {
        let mut state = self.hub.state();
        let position = *state.position.get_or_insert(last);
        let receiver = match state.projects.get(&self.project) {
            Some(channel) => channel.sender.subscribe(),
            // Unreachable: the channel exists as long as a slot does.
            None => broadcast::channel(1).1,
        };
        drop(state);
        self.hub.reader_joined.notify_one();
        (receiver, position)
    }
}

impl Drop for ReaderSlot {
    fn drop(&mut self) {
        let mut state = self.hub.state();
        if let hash_map::Entry::Occupied(mut channel) = state.projects.entry(self.project) {
            channel.get_mut().readers -= 1;
            if channel.get().readers == 0 {
                channel.remove();
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
    fn reader_receives_all_events_of_its_project_after_its_position() {
        let hub = Hub::new(StreamOptions::default());
        let slot = hub.reserve(PROJECT).unwrap();
        let (mut first, from) = slot.subscribe(id(5));
        assert_eq!((from, hub.position()), (id(5), Some(id(5))));
        hub.publish((id(5), id(7)), [(PROJECT, 6), (OTHER, 7)], frame);
        // The ID from the database may be behind or ahead of the tail. The tail's position applies.
        let (mut second, from) = slot.subscribe(id(9));
        assert_eq!(from, id(7));
        hub.publish((id(7), id(8)), [(PROJECT, 8)], frame);
        let ids = |receiver: &mut broadcast::Receiver<Arc<Frame>>| {
            std::iter::from_fn(|| receiver.try_recv().ok()).map(|frame| frame.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&mut first), [id(6), id(8)]);
        assert_eq!(ids(&mut second), [id(8)]);
    }

    #[test]
    fn events_read_for_departed_readers_are_not_published_to_new_readers() {
        let hub = Hub::new(StreamOptions::default());
        let slot = hub.reserve(PROJECT).unwrap();
        let _ = slot.subscribe(id(5));
        drop(slot);
        assert_eq!(hub.position(), None);
        let slot = hub.reserve(PROJECT).unwrap();
        let (mut receiver, from) = slot.subscribe(id(9));
        hub.publish((id(5), id(7)), [(PROJECT, 6)], frame);
        assert_eq!((from, hub.position()), (id(9), Some(id(9))));
        assert!(receiver.try_recv().is_err());
    }

    #[test]
    fn streams_are_limited_per_project_and_in_total_until_they_close() {
        let hub = Hub::new(StreamOptions { max_streams: 2, max_streams_per_project: 1, ..StreamOptions::default() });
        let slot = hub.reserve(PROJECT).unwrap();
        assert_eq!(hub.reserve(PROJECT).unwrap_err().code(), Code::LimitReached);
        let other = hub.reserve(OTHER).unwrap();
        assert_eq!(hub.reserve(ProjectId::from_u128(3)).unwrap_err().code(), Code::Overloaded);
        drop(slot);
        drop(other);
        assert_eq!((hub.readers(), hub.state().projects.len()), (0, 0));
        assert!(hub.reserve(PROJECT).is_ok());
    }
}
