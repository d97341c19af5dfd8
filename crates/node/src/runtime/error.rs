//! Why the runtime could not do something, in kubelet's terms.

use crate::image::ImageError;

/// A failed runtime operation. The message names the pod or container, the cause and what to do.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// No such sandbox on this node.
    #[error("pod {uid} has no sandbox on this node")]
    NoSandbox {
        /// UID of the pod.
        uid: String,
    },
    /// No such container on this node.
    #[error("container {id} does not exist on this node")]
    NoContainer {
        /// The id asked for.
        id: String,
    },
    /// The container is not in the state that the operation needs.
    #[error("container {name} is {state}, cannot {operation}")]
    WrongState {
        /// Name of the container in its pod.
        name: String,
        /// Its state in one word.
        state: String,
        /// What was asked.
        operation: &'static str,
    },
    /// All addresses of the node's pod CIDR are taken.
    #[error(
        "no free address in {cidr}: all {size} are taken; delete pods or give the node a larger pod CIDR"
    )]
    NoAddress {
        /// The node's pod CIDR.
        cidr: String,
        /// How many addresses it has for pods.
        size: usize,
    },
    /// The sandbox could not be made or removed.
    #[error("sandbox of pod {pod}: {cause}")]
    Sandbox {
        /// `namespace/name` of the pod.
        pod: String,
        /// What went wrong.
        cause: String,
    },
    /// The container could not be made: `CreateContainerError`.
    #[error("container {name}: {cause}")]
    Create {
        /// Name of the container in its pod.
        name: String,
        /// What went wrong.
        cause: String,
    },
    /// The container's configuration cannot be met: `CreateContainerConfigError`.
    #[error("container {name}: {cause}")]
    Config {
        /// Name of the container in its pod.
        name: String,
        /// What went wrong.
        cause: String,
    },
    /// The container's program could not be started: `RunContainerError`, exit code 128, `StartError`.
    #[error("container {name}: {cause}")]
    Start {
        /// Name of the container in its pod.
        name: String,
        /// What went wrong, e.g. `exec: "foo": executable file not found in $PATH`.
        cause: String,
    },
    /// A program could not be run inside a container.
    #[error("{cause}")]
    Exec {
        /// What went wrong.
        cause: String,
        /// 127 when the program is missing, 126 when it cannot be executed.
        code: i32,
    },
    /// An image problem.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The pod's shim does not answer.
    #[error("the shim of pod {uid} does not answer: {cause}")]
    Shim {
        /// UID of the pod.
        uid: String,
        /// What went wrong.
        cause: String,
    },
    /// A file of the runtime could not be read or written.
    #[error("{what}: {cause}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// The system's answer.
        cause: std::io::Error,
    },
    /// Not usable now.
    #[error("{what} is not available")]
    Unavailable {
        /// What was asked for.
        what: String,
    },
}

impl RuntimeError {
    /// The `reason` that kubelet puts into a waiting or terminated container status.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Config { .. } => "CreateContainerConfigError",
            Self::Start { .. } | Self::Exec { .. } => "RunContainerError",
            Self::Image(error) => error.reason(),
            Self::Sandbox { .. } | Self::NoAddress { .. } | Self::Shim { .. } | Self::NoSandbox { .. } => {
                "FailedCreatePodSandBox"
            }
            _ => "CreateContainerError",
        }
    }
}
