//! Pulls of images. A pull takes longer than a call may, so the caller is asked to retry.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bollard::{Docker, query_parameters::CreateImageOptionsBuilder};
use futures_util::TryStreamExt as _;
use tokio::time::Instant;

use super::failure::pull_error;
use crate::resources::drivers::driver::{DriverError, DriverErrorKind};

/// Maximum number of concurrent pulls.
const MAX_CONCURRENT_PULLS: usize = 4;
/// Pause before the caller retries.
const RETRY_DELAY: Duration = Duration::from_secs(2);

/// Retention time of pull errors: longer than the longest pause between two attempts.
const ERROR_RETENTION: Duration = Duration::from_secs(120);

/// Pulls in progress and failed pulls of this server. They need not survive a restart.
#[derive(Clone, Debug, Default)]
pub struct Pulls(Arc<Mutex<HashMap<String, Pull>>>);

#[derive(Debug)]
enum Pull {
    InProgress,
    Failed(DriverError, Instant),
}

impl Pulls {
    /// Starts to pull a missing image, unless a pull is in progress. Returns the reason why the image is not available
    /// yet.
    pub fn fetch(&self, engine: &Docker, image: &str) -> DriverError {
        let mut pulls = self.pulls();
        pulls.retain(|_, pull| !matches!(pull, Pull::Failed(_, at) if at.elapsed() > ERROR_RETENTION));
        if let Some(Pull::Failed(..)) = pulls.get(image)
            && let Some(Pull::Failed(error, _)) = pulls.remove(image)
        {
            return error;
        }
        let in_progress = pulls.values().filter(|pull| matches!(pull, Pull::InProgress)).count();
        if !pulls.contains_key(image) && in_progress < MAX_CONCURRENT_PULLS {
            pulls.insert(image.to_owned(), Pull::InProgress);
            tokio::spawn(fetch(self.clone(), engine.clone(), image.to_owned()));
        }
        let message = format!("the image '{image}' is being pulled");
        DriverError::new(DriverErrorKind::Retryable { after: Some(RETRY_DELAY) }, "pulling", message)
    }

    fn pulls(&self) -> MutexGuard<'_, HashMap<String, Pull>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Pull in progress. Dropping it releases its slot, whether the pull ended or panicked.
struct PullGuard {
    pulls: Pulls,
    image: String,
}

impl Drop for PullGuard {
    fn drop(&mut self) {
        self.pulls.pulls().remove(&self.image);
    }
}

async fn fetch(pulls: Pulls, engine: Docker, image: String) {
    let guard = PullGuard { pulls: pulls.clone(), image: image.clone() };
    let options = CreateImageOptionsBuilder::new().from_image(&with_default_tag(&image)).build();
    let end = engine.create_image(Some(options), None, None).try_for_each(|_| async { Ok(()) }).await;
    drop(guard);
    let mut pulls = pulls.pulls();
    if let Err(error) = end {
        tracing::warn!(%error, image, "image pull failed");
        let failed = pull_error(&image, error);
        pulls.insert(image, Pull::Failed(failed, Instant::now()));
    }
}

/// Adds the tag `latest` to an image without a tag, because the engine would pull all tags.
fn with_default_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_without_a_tag_means_latest() {
        assert_eq!(with_default_tag("debian"), "debian:latest");
        assert_eq!(with_default_tag("registry:5000/debian"), "registry:5000/debian:latest");
        assert_eq!(with_default_tag("registry:5000/debian:12"), "registry:5000/debian:12");
        assert_eq!(with_default_tag("debian@sha256:00"), "debian@sha256:00");
    }
}
