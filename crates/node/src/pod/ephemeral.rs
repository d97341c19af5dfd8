//! Ephemeral containers (`kubectl debug`, KEP-277): added to a running pod, started once, never restarted; the pod's
//! phase and readiness do not depend on them.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod};

fn all(pod: &Pod) -> &[EphemeralContainer] {
    pod.spec.as_ref().and_then(|s| s.ephemeral_containers.as_deref()).unwrap_or(&[])
}

/// Each as a container like any other.
pub fn containers(pod: &Pod) -> impl DoubleEndedIterator<Item = Container> {
    all(pod).iter().map(container)
}

pub fn is_ephemeral(pod: &Pod, name: &str) -> bool {
    all(pod).iter().any(|c| c.name == name)
}

/// The container whose processes it wants to see.
pub fn target<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let target = all(pod).iter().find(|c| c.name == name)?.target_container_name.as_deref();
    target.filter(|target| !target.is_empty())
}

fn container(of: &EphemeralContainer) -> Container {
    let of = of.clone();
    Container {
        args: of.args,
        command: of.command,
        env: of.env,
        env_from: of.env_from,
        image: of.image,
        image_pull_policy: of.image_pull_policy,
        name: of.name,
        resources: of.resources,
        security_context: of.security_context,
        stdin: of.stdin,
        stdin_once: of.stdin_once,
        termination_message_path: of.termination_message_path,
        termination_message_policy: of.termination_message_policy,
        tty: of.tty,
        volume_mounts: of.volume_mounts,
        working_dir: of.working_dir,
        ..Container::default()
    }
}
