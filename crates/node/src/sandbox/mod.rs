//! Namespaces, links, addresses and cgroups of pods.
