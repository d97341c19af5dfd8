//! Makes images present, as the pull policy says.

use std::sync::Arc;

use super::pod::lock;
use super::{PullPolicy, PullSecrets, Runtime};
use crate::image::{self, ImageError, ImageInfo, ImageName};

impl Runtime {
    pub(super) async fn image(
        &self,
        image: &str,
        policy: PullPolicy,
        secrets: &PullSecrets,
    ) -> Result<ImageInfo, ImageError> {
        let here = self.present(image).await?;
        match (policy, here) {
            // The built-in image is on no registry: it is always as new as can be.
            (_, Some(found)) if found.builtin => Ok(found),
            (PullPolicy::Never | PullPolicy::IfNotPresent, Some(found)) => Ok(found),
            (PullPolicy::Never, None) => Err(ImageError::NeverPull { image: image.to_owned() }),
            _ => self.pull(image, policy, secrets).await,
        }
    }

    async fn present(&self, image: &str) -> Result<Option<ImageInfo>, ImageError> {
        let (store, name) = (self.inner.store.clone(), image.to_owned());
        let found = tokio::task::spawn_blocking(move || store.find(&name)).await;
        found.unwrap_or_else(|error| Err(internal("looking for an image", error)))
    }

    /// Pulls where the registry can be reached. Pods that want the same image wait for one pull.
    async fn pull(
        &self,
        image: &str,
        policy: PullPolicy,
        secrets: &PullSecrets,
    ) -> Result<ImageInfo, ImageError> {
        let name = ImageName::parse(image)?.full();
        let turn = Arc::clone(lock(&self.inner.pulls).entry(name.clone()).or_default());
        let held = turn.lock().await;
        let result = async {
            if policy == PullPolicy::IfNotPresent
                && let Some(found) = self.present(image).await?
            {
                return Ok(found);
            }
            let (store, wanted, secrets) = (self.inner.store.clone(), image.to_owned(), secrets.clone());
            let registries = self.inner.config.registries.clone();
            let pull = async move { image::pull(&store, &wanted, &secrets, &registries, None).await };
            let pulled = self.inner.config.host.spawn(pull).await;
            pulled.unwrap_or_else(|error| Err(internal("pulling an image", error)))
        };
        let result = result.await;
        drop(held);
        let mut pulls = lock(&self.inner.pulls);
        if pulls.get(&name).is_some_and(|turn| Arc::strong_count(turn) <= 2) {
            pulls.remove(&name);
        }
        result
    }
}

fn internal(what: &str, error: tokio::task::JoinError) -> ImageError {
    ImageError::Io { what: what.to_owned(), cause: std::io::Error::other(error) }
}
