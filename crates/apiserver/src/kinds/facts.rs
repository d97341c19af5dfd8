//! The table of kinds with behaviour of their own; all others are metadata and data.

use serde_json::Value;

use crate::custom::definition;

use super::{
    apps, batch, cluster, config,
    field::Errors,
    format::{self, Complaints},
    job, limits, network, pod, policy, quota, rbac, service, stateful, traffic,
};

/// What counts as a new generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// The kind has none.
    Never,
    Spec,
    SpecOrAnnotations,
    /// Anything but metadata and status.
    Content,
}

/// One kind's behaviour.
pub struct Facts {
    pub group: &'static str,
    pub kind: &'static str,
    /// The format of names.
    pub name: fn(&str) -> Complaints,
    pub generation: Generation,
    pub default: fn(&mut Value),
    /// After the status was dropped.
    pub prepare_create: fn(&mut Value),
    /// `(old, new)`, for writes of the main resource.
    pub prepare_update: fn(&Value, &mut Value),
    /// Checks everything but metadata; `old` is the stored object of an update.
    pub check: fn(&Value, Option<&Value>, &mut Errors),
    /// `(old, new)`, for writes of the status.
    pub check_status: fn(&Value, &Value, &mut Errors),
    /// A client may set the status when it creates the object.
    pub status_on_create: bool,
    /// Labels are not changed by writes of the status.
    pub status_keeps_labels: bool,
}

fn nothing(_: &mut Value) {}
fn nothing_two(_: &Value, _: &mut Value) {}
fn sound(_: &Value, _: Option<&Value>, _: &mut Errors) {}
fn sound_status(_: &Value, _: &Value, _: &mut Errors) {}

/// A kind without behaviour.
const PLAIN: Facts = Facts {
    group: "",
    kind: "",
    name: format::dns1123_subdomain,
    generation: Generation::Never,
    default: nothing,
    prepare_create: nothing,
    prepare_update: nothing_two,
    check: sound,
    check_status: sound_status,
    status_on_create: false,
    status_keeps_labels: false,
};

/// Custom resources and whatever else is not in the table.
static OTHER: Facts = Facts { generation: Generation::Content, ..PLAIN };
static OTHER_BUILT_IN: Facts = PLAIN;

const BUILT_IN_GROUPS: [&str; 22] = [
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

/// Whether the group is one of Kubernetes' own.
pub fn is_built_in(group: &str) -> bool {
    BUILT_IN_GROUPS.contains(&group)
}

/// The behaviour of a kind.
pub fn of(group: &str, kind: &str) -> &'static Facts {
    let known = KINDS.iter().find(|facts| facts.group == group && facts.kind == kind);
    known.unwrap_or(if is_built_in(group) { &OTHER_BUILT_IN } else { &OTHER })
}

const fn core(kind: &'static str) -> Facts {
    Facts { kind, ..PLAIN }
}

const fn workload(
    kind: &'static str,
    default: fn(&mut Value),
    check: fn(&Value, Option<&Value>, &mut Errors),
) -> Facts {
    Facts {
        group: "apps",
        kind,
        generation: Generation::Spec,
        default,
        check,
        check_status: apps::check_status,
        ..PLAIN
    }
}

const fn access(kind: &'static str) -> Facts {
    Facts { group: "rbac.authorization.k8s.io", kind, name: format::path_segment, ..PLAIN }
}

const fn networking(kind: &'static str, generation: Generation) -> Facts {
    Facts { group: "networking.k8s.io", kind, generation, ..PLAIN }
}

const fn with_spec_generation(group: &'static str, kind: &'static str) -> Facts {
    Facts { group, kind, generation: Generation::Spec, ..PLAIN }
}

fn ip_address_name(name: &str) -> Complaints {
    super::ip::address(name)
}

fn cron_job_name(name: &str) -> Complaints {
    let mut complaints = format::dns1123_subdomain(name);
    if name.len() > 52 {
        complaints.push("must be no more than 52 characters".to_owned());
    }
    complaints
}

static KINDS: &[Facts] = &[
    Facts {
        generation: Generation::Spec,
        default: pod::default,
        prepare_create: pod::prepare_create,
        prepare_update: pod::prepare_update,
        check: |new, old, errors| match old {
            None => pod::validate_create(new, errors),
            Some(old) => pod::validate_update(old, new, errors),
        },
        check_status: pod::validate_status,
        ..core("Pod")
    },
    Facts {
        name: format::dns1123_label,
        default: service::default,
        prepare_create: service::prepare_create,
        prepare_update: service::prepare_update,
        check: |new, old, errors| match old {
            None => service::validate_create(new, errors),
            Some(old) => service::validate_update(old, new, errors),
        },
        check_status: service::validate_status,
        ..core("Service")
    },
    Facts {
        name: format::dns1123_label,
        default: cluster::default_namespace,
        prepare_create: cluster::prepare_namespace,
        prepare_update: cluster::keep_finalizers,
        check: cluster::check_namespace,
        check_status: cluster::check_namespace_status,
        ..core("Namespace")
    },
    Facts {
        default: cluster::default_node,
        check: cluster::check_node,
        check_status: |old, new, errors| cluster::check_node(new, Some(old), errors),
        status_on_create: true,
        ..core("Node")
    },
    Facts { check: config::check_config_map, ..core("ConfigMap") },
    Facts { default: config::default_secret, check: config::check_secret, ..core("Secret") },
    Facts { default: network::default_endpoints, check: network::check_endpoints, ..core("Endpoints") },
    Facts { default: apps::default_pod_template, generation: Generation::Content, ..core("PodTemplate") },
    Facts {
        generation: Generation::Spec,
        default: apps::default_replication_controller,
        check: apps::check_replication_controller,
        check_status: apps::check_status,
        ..core("ReplicationController")
    },
    Facts {
        default: cluster::default_volume,
        check: limits::check_volume,
        prepare_create: cluster::prepare_pending,
        ..core("PersistentVolume")
    },
    Facts {
        default: cluster::default_claim,
        check: limits::check_claim,
        prepare_create: cluster::prepare_pending,
        ..core("PersistentVolumeClaim")
    },
    Facts {
        generation: Generation::SpecOrAnnotations,
        status_keeps_labels: true,
        ..workload("Deployment", apps::default_deployment, apps::check_deployment)
    },
    workload("ReplicaSet", apps::default_replica_set, apps::check_replica_set),
    Facts {
        check_status: sound_status,
        prepare_create: policy::prepare_daemon_set,
        prepare_update: policy::update_daemon_set,
        ..workload("DaemonSet", apps::default_daemon_set, apps::check_daemon_set)
    },
    Facts {
        name: format::dns1123_label,
        ..workload("StatefulSet", stateful::default_stateful_set, stateful::check_stateful_set)
    },
    Facts {
        default: batch::default_job,
        prepare_create: batch::prepare_job,
        check: batch::check_job,
        check_status: job::check_status,
        ..with_spec_generation("batch", "Job")
    },
    Facts {
        name: cron_job_name,
        default: batch::default_cron_job,
        check: batch::check_cron_job,
        ..with_spec_generation("batch", "CronJob")
    },
    Facts {
        group: "discovery.k8s.io",
        kind: "EndpointSlice",
        generation: Generation::Content,
        default: network::default_endpoint_slice,
        check: network::check_endpoint_slice,
        ..PLAIN
    },
    Facts {
        default: network::default_network_policy,
        check: traffic::check_policy,
        ..networking("NetworkPolicy", Generation::Spec)
    },
    Facts { check: traffic::check_ingress, ..networking("Ingress", Generation::Spec) },
    Facts { check: quota::check, ..core("ResourceQuota") },
    Facts { default: limits::default_limits, check: limits::check_limits, ..core("LimitRange") },
    networking("IngressClass", Generation::Spec),
    Facts {
        name: ip_address_name,
        check: policy::check_ip_address,
        ..networking("IPAddress", Generation::Never)
    },
    Facts { check: policy::check_service_cidr, ..networking("ServiceCIDR", Generation::Never) },
    Facts {
        name: format::path_segment,
        prepare_create: policy::prepare_budget,
        check: policy::check_budget,
        check_status: policy::check_budget_status,
        ..with_spec_generation("policy", "PodDisruptionBudget")
    },
    Facts { group: "apps", kind: "ControllerRevision", check: policy::check_revision, ..PLAIN },
    Facts { name: format::path_segment, ..core("Event") },
    Facts { group: "events.k8s.io", kind: "Event", name: format::path_segment, ..PLAIN },
    Facts { group: "storage.k8s.io", kind: "CSIDriver", default: cluster::default_csi_driver, ..PLAIN },
    Facts {
        group: "autoscaling",
        kind: "HorizontalPodAutoscaler",
        default: cluster::default_autoscaler,
        check: limits::check_autoscaler,
        ..PLAIN
    },
    Facts {
        default: definition::default,
        prepare_create: definition::prepare_create,
        prepare_update: definition::prepare_update,
        check: definition::check,
        ..with_spec_generation("apiextensions.k8s.io", "CustomResourceDefinition")
    },
    with_spec_generation("flowcontrol.apiserver.k8s.io", "FlowSchema"),
    with_spec_generation("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"),
    with_spec_generation("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
    with_spec_generation("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
    Facts {
        group: "admissionregistration.k8s.io",
        kind: "ValidatingWebhookConfiguration",
        generation: Generation::Content,
        ..PLAIN
    },
    Facts {
        group: "admissionregistration.k8s.io",
        kind: "MutatingWebhookConfiguration",
        generation: Generation::Content,
        ..PLAIN
    },
    Facts { group: "coordination.k8s.io", kind: "Lease", check: cluster::check_lease, ..PLAIN },
    Facts {
        group: "storage.k8s.io",
        kind: "StorageClass",
        default: cluster::default_storage_class,
        check: limits::check_storage_class,
        ..PLAIN
    },
    Facts {
        group: "scheduling.k8s.io",
        kind: "PriorityClass",
        generation: Generation::Content,
        default: cluster::default_priority_class,
        check: limits::check_priority_class,
        ..PLAIN
    },
    Facts { check: rbac::check_role, ..access("Role") },
    Facts { check: rbac::check_cluster_role, ..access("ClusterRole") },
    Facts { default: rbac::default_binding, check: rbac::check_role_binding, ..access("RoleBinding") },
    Facts {
        default: rbac::default_binding,
        check: rbac::check_cluster_role_binding,
        ..access("ClusterRoleBinding")
    },
];
