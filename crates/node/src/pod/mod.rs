//! What a pod's containers should be doing.
