//! Requests passed on to a node's kubelet API, a pod or a Service.
