//! The Node object and its Lease as this node wants them, purely.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec, NodeStatus,
    NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time};

use super::facts::Facts;

/// What we call ourselves where clients expect kubelet's version.
pub const KUBELET_VERSION: &str = "v1.36.3+daymark";
/// Below this share of free space the node reports pressure, percent.
const DISK_PRESSURE: u64 = 5;

/// What the Node object is made of.
#[derive(Clone, Debug)]
pub struct Identity {
    pub name: String,
    /// One of each family, the primary first; so are the networks.
    pub ips: Vec<String>,
    pub pod_cidrs: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub kubelet_port: u16,
    pub max_pods: u32,
    pub lease_interval: Duration,
}

/// Labels that this node sets; others on the object are left alone.
pub fn labels(id: &Identity) -> BTreeMap<String, String> {
    let arch = Facts::architecture();
    let mut labels = BTreeMap::from([
        ("kubernetes.io/hostname".to_owned(), id.name.clone()),
        ("kubernetes.io/os".to_owned(), "linux".to_owned()),
        ("kubernetes.io/arch".to_owned(), arch.to_owned()),
        ("beta.kubernetes.io/os".to_owned(), "linux".to_owned()),
        ("beta.kubernetes.io/arch".to_owned(), arch.to_owned()),
    ]);
    labels.extend(id.labels.clone());
    labels
}

/// The object of a node that is new.
pub fn node(id: &Identity) -> Node {
    Node {
        metadata: ObjectMeta {
            name: Some(id.name.clone()),
            labels: Some(labels(id)),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            pod_cidr: id.pod_cidrs.first().cloned(),
            pod_cidrs: Some(id.pod_cidrs.clone()),
            ..NodeSpec::default()
        }),
        status: None,
    }
}

/// The status now; transition times are kept from `before`.
pub fn status(id: &Identity, facts: &Facts, before: Option<&NodeStatus>, now: Timestamp) -> NodeStatus {
    let amount = |n: u64, unit: &str| Quantity(format!("{n}{unit}"));
    let room = BTreeMap::from([
        ("cpu".to_owned(), amount(facts.cpus, "")),
        ("memory".to_owned(), amount(facts.memory / 1024, "Ki")),
        ("ephemeral-storage".to_owned(), amount(facts.storage / 1024, "Ki")),
        ("pods".to_owned(), amount(u64::from(id.max_pods), "")),
    ]);
    let address = |kind: &str, address: &String| NodeAddress { type_: kind.into(), address: address.clone() };
    let internal = id.ips.iter().map(|ip| address("InternalIP", ip));
    NodeStatus {
        addresses: Some(internal.chain([address("Hostname", &id.name)]).collect()),
        capacity: Some(room.clone()),
        allocatable: Some(room),
        conditions: Some(conditions(facts, before, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(id.kubelet_port) }),
        }),
        node_info: Some(NodeSystemInfo {
            architecture: Facts::architecture().into(),
            boot_id: facts.boot_id.clone(),
            container_runtime_version: concat!("daymark://", env!("CARGO_PKG_VERSION")).into(),
            kernel_version: facts.kernel.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: KUBELET_VERSION.into(),
            machine_id: facts.machine_id.clone(),
            operating_system: "linux".into(),
            os_image: facts.os_image.clone(),
            system_uuid: facts.system_uuid.clone(),
            swap: None,
        }),
        ..NodeStatus::default()
    }
}

fn conditions(facts: &Facts, before: Option<&NodeStatus>, now: Timestamp) -> Vec<NodeCondition> {
    let disk_full = facts.storage > 0 && facts.storage_free * 100 / facts.storage < DISK_PRESSURE;
    let disk = if disk_full {
        ("DiskPressure", "True", "KubeletHasDiskPressure", "kubelet has disk pressure")
    } else {
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure")
    };
    [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        disk,
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ]
    .into_iter()
    .map(|(kind, value, reason, message)| {
        let known = before.and_then(|s| s.conditions.as_ref()).into_iter().flatten();
        let same = known.filter(|c| c.type_ == kind && c.status == value);
        let since = same.filter_map(|c| c.last_transition_time.clone()).next();
        NodeCondition {
            type_: kind.into(),
            status: value.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: Some(since.unwrap_or(Time(now))),
        }
    })
    .collect()
}

/// The heartbeat; owned by the Node so that it goes when the Node goes.
pub fn lease(id: &Identity, node_uid: Option<&str>, now: Timestamp) -> Lease {
    let owner = node_uid.map(|uid| OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: id.name.clone(),
        uid: uid.into(),
        ..OwnerReference::default()
    });
    Lease {
        metadata: ObjectMeta {
            name: Some(id.name.clone()),
            namespace: Some("kube-node-lease".into()),
            owner_references: owner.map(|o| vec![o]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(id.name.clone()),
            lease_duration_seconds: Some(i32::try_from(id.lease_interval.as_secs().max(1) * 5).unwrap_or(40)),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            name: "node1".into(),
            ips: vec!["172.30.0.11".into(), "fd00:172:30::11".into()],
            pod_cidrs: vec!["10.244.1.0/24".into(), "fd00:10:244:1::/64".into()],
            labels: BTreeMap::from([("zone".into(), "a".into())]),
            kubelet_port: 10250,
            max_pods: 110,
            lease_interval: Duration::from_secs(2),
        }
    }

    #[test]
    fn heartbeats_move_and_transitions_stay() {
        let facts = Facts { cpus: 2, memory: 4096, storage: 1000, storage_free: 900, ..Facts::default() };
        let (t1, t2) = (Timestamp::from_second(100).expect("t"), Timestamp::from_second(200).expect("t"));
        let first = status(&identity(), &facts, None, t1);
        let full = Facts { storage_free: 10, ..facts };
        let second = status(&identity(), &full, Some(&first), t2);
        let times = |s: &NodeStatus, kind: &str| {
            let all = s.conditions.clone().expect("conditions");
            let c = all.into_iter().find(|c| c.type_ == kind).expect("the condition");
            (c.status, c.last_heartbeat_time.expect("t").0, c.last_transition_time.expect("t").0)
        };
        assert_eq!(times(&second, "Ready"), ("True".into(), t2, t1));
        assert_eq!(times(&second, "DiskPressure"), ("True".into(), t2, t2));
        assert_eq!(second.capacity.expect("capacity")["memory"].0, "4Ki");
        let addresses = second.addresses.into_iter().flatten().map(|a| a.address).collect::<Vec<_>>();
        assert_eq!(addresses, ["172.30.0.11", "fd00:172:30::11", "node1"]);
    }

    #[test]
    fn a_new_node_has_its_labels_and_range() {
        let node = node(&identity());
        let labels = node.metadata.labels.expect("labels");
        assert_eq!((labels["zone"].as_str(), labels["kubernetes.io/hostname"].as_str()), ("a", "node1"));
        let spec = node.spec.expect("spec");
        assert_eq!(spec.pod_cidr.as_deref(), Some("10.244.1.0/24"));
        assert_eq!(spec.pod_cidrs, Some(vec!["10.244.1.0/24".into(), "fd00:10:244:1::/64".into()]));
        let lease = lease(&identity(), Some("u"), Timestamp::UNIX_EPOCH);
        assert_eq!(lease.spec.expect("spec").lease_duration_seconds, Some(10));
    }
}
