//! The kubelet API of this node.
